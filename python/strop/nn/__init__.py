"""Layers: what strop does to a model, as modules of torch."""

from strop.nn._held import Held
from strop.nn._packed_linear import PackedLinear

__all__ = ["Held", "PackedLinear"]
