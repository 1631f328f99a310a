"""The ``nn.Linear`` that a packed layer is made of, and the one that is made of it again."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

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
