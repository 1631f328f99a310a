"""Whole models: pruned layers put in, taken out, loaded, reported on."""
