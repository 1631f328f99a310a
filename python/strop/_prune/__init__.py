"""Pruning: masks and soft thresholds."""
