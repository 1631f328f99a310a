"""Weights of a few bits, trained: straight-through against learned step sizes."""
