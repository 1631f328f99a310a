"""Cases of the augment family."""
