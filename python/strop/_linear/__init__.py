"""Linear layers whose weights stay packed."""
