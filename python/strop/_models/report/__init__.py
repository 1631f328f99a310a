"""What became of the linear layers of a model that was pruned."""
