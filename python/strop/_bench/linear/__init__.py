"""Cases of linear layers whose weight is pruned."""
