"""Activations that products have in the same pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda y: y,
    "": lambda y: y,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
    "silu": functional.silu,
}


def checked_activation(op: str, activation: object) -> None:
    """Raises ValueError or TypeError for what is no activation."""
    if activation is None:
        return
    if not isinstance(activation, str):
        kind = type(activation).__name__
        raise TypeError(f"{op}: activation is a {kind}; a string or None is needed")
    if activation not in ACTIVATIONS or activation == "":
        raise ValueError(
            f"{op}: activation is {activation!r}; None, relu, gelu, gelu_tanh and silu are known"
        )
