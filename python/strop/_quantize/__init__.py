"""Quantization: formats, fake numbers, packed codes."""
