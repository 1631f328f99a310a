"""Whole models: packed layers put in, taken out, loaded, reported on."""
