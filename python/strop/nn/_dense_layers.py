"""The ``nn.Linear`` that a packed layer is made of, and the one that is made of it again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
}


def check_linear(name: str, linear: object) -> None:
    """Raises where something is no ``nn.Linear`` with a weight to pack."""
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"{name}: linear is a {type(linear).__name__}; an nn.Linear is needed")
    if linear.weight.device.type == "meta":
        raise ValueError(f"{name}: linear is on meta, where there are no weights to pack")


def dense_layer(
    weight: Tensor, bias: Tensor | None, activation: str | None, training: bool
) -> nn.Module:
    """An ``nn.Linear`` of a weight and a copy of the bias; with an activation, both in a Sequential."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias is not None, "meta")
    linear.weight = nn.Parameter(weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().to(weight.dtype, copy=True))
    if activation is None:
        return linear.train(training)
    return nn.Sequential(linear, ACTIVATIONS[activation]()).train(training)


def masked(linear: nn.Module, name: str) -> bool:
    """Whether ``torch.nn.utils.prune`` masks a parameter."""
    return hasattr(linear, f"{name}_orig") and hasattr(linear, f"{name}_mask")


def effective(linear: nn.Linear, name: str) -> Tensor:
    """A weight or bias as the layer would use it, with its mask of ``torch.nn.utils.prune``.

    (The attribute itself is what the last forward made of both.)
    """
    found: Tensor = getattr(linear, name)
    if is_lazy(found):
        raise ValueError(
            f"strop.nn.PackedLinear: the layer's {name} is not initialised; run the model once"
        )
    if masked(linear, name):
        found = getattr(linear, f"{name}_orig").detach() * getattr(linear, f"{name}_mask")
    return found.detach()


def bias_for(linear: nn.Linear, dtype: torch.dtype) -> Tensor | None:
    """The layer's bias beside values of a dtype."""
    if linear.bias is None:
        return None
    bias = effective(linear, "bias") if masked(linear, "bias") else linear.bias
    if bias.dtype != dtype and torch.float64 in (bias.dtype, dtype):
        return nn.Parameter(bias.detach().to(dtype), requires_grad=linear.bias.requires_grad)
    return bias
