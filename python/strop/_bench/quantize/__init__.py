"""Cases of the quantize family."""
