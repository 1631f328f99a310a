"""Cases of pruning."""
