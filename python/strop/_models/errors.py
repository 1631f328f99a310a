"""What packing changes of the results of a model's layers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from strop._linear.packed_linear import packed_linear
from strop._linear.packed_weight import PackedWeight
from strop._models.run import run
from strop._models.watch import replaced
from strop.nn import PackedLinear


class Sums:
    """Squares of a layer's results and of their errors, summed."""

    def __init__(self) -> None:
        self.signal, self.noise = 0.0, 0.0

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise in dB; infinite where nothing changed."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(max(self.signal, 1e-300) / self.noise)


def signal_to_noise(
    model: nn.Module,
    example_inputs: object,
    layers: Iterable[tuple[nn.Module, PackedWeight]],
) -> Mapping[int, Sums]:
    """By the id of a layer, its results with the packed weight beside those that it has in one run.

    Each layer is given what it is given in the model as it is: errors do not add up.
    """
    found: dict[int, Sums] = {}
    with contextlib.ExitStack() as undo:
        for linear, weight in layers:
            sums = found[id(linear)] = Sums()
            undo.callback(replaced(linear, "forward", _compared(linear, weight, sums)))
        run(model, example_inputs)
    return found


def _compared(linear: nn.Module, weight: PackedWeight, sums: Sums) -> Callable[..., Any]:
    forward, bias = linear.forward, linear.bias
    activation = linear.activation if isinstance(linear, PackedLinear) else None

    def run_both(*args: Any, **kwargs: Any) -> Any:
        y = forward(*args, **kwargs)
        x = next(iter((*args, *kwargs.values())), None)
        if isinstance(x, Tensor) and isinstance(y, Tensor) and not x.is_nested and x.numel():
            given = bias if isinstance(bias, Tensor) else None
            packed = packed_linear(x, weight, given, activation=activation)
            sums.signal += float(y.double().square().sum())
            sums.noise += float((y.double() - packed.double()).square().sum())
        return y

    return run_both
