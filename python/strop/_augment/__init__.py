"""Augmentation of whole batches of images."""
