"""Linear layers whose weights stay pruned."""
