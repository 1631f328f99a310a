"""Runs a model to see what its layers are given and do, and measures them on as much."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from strop._linear import plans
from strop._linear.activations import ACTIVATIONS
from strop._linear.masked_weight import MaskedWeight
from strop._linear.packed_linear import packed_linear
from strop._linear.packed_weight import PackedWeight
from strop._models.compiled_models import in_eager
from strop._models.compressed_layers import is_compressed, quantized, scheme_of, undisturbed
from strop._models.fusion import Fusion
from strop._models.layers import Layer
from strop._models.linear_kinds import matrix
from strop._models.watch import Watch, replaced
from strop._quantize.quantized_tensor import QuantizedTensor

_OP = "strop.pack_model"


@dataclass(frozen=True)
class Timing:
    """A layer on some rows of input, in milliseconds: dense, and as it was planned."""

    rows: int
    dense_ms: float
    planned_ms: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"rows": self.rows, "dense_ms": self.dense_ms, "planned_ms": self.planned_ms}


@dataclass
class Seen:
    """What a layer was given."""

    rows: Counter[int]
    dtype: torch.dtype


@dataclass(frozen=True)
class Observed:
    """What one run of the model showed."""

    seen: Mapping[int, Seen]
    """By the id of a layer, what it was given."""
    read: Mapping[int, str]
    """By the id of a layer, why its weight has to stay as it is."""
    fusions: Mapping[int, Fusion]
    """Of those that seemed possible, those that the model runs as such."""
    timed: dict[Hashable, list[Timing]] = field(default_factory=dict)
    """What layers took: those of one shape in codes of one kind take the same time."""

    def timings(
        self, layer: Layer, weight: PackedWeight, seen: Seen, activation: str | None
    ) -> list[Timing]:
        """One for each class of rows that a layer was given."""
        linear = layer.linear
        if isinstance(weight, MaskedWeight):
            return timings(layer, weight, seen, activation)
        facts = (*sorted(seen.rows), seen.dtype, activation, linear.bias is None)
        key = (type(linear), weight.shape, json.dumps(weight.facts()), facts)
        if key not in self.timed:
            self.timed[key] = timings(layer, weight, seen, activation)
        return self.timed[key]


def observed(
    model: nn.Module,
    example_inputs: object,
    layers: Sequence[Layer],
    fusions: Mapping[int, Fusion],
) -> Observed:
    """What the layers do in one run, in eager and in eval mode, without gradients."""
    columns = {id(layer.linear): layer.shape[1] for layer in layers}
    seen: dict[int, Seen] = {}

    def note(module: nn.Module, x: Any) -> None:
        if isinstance(x, Tensor) and x.is_nested:
            x = x.values()
        if isinstance(x, Tensor) and (rows := x.numel() // max(columns[id(module)], 1)):
            seen.setdefault(id(module), Seen(Counter(), x.dtype)).rows[rows] += 1

    watch = Watch(layers, fusions)
    with watch.watching(note):
        result = run(model, example_inputs)
    fused = watch.fused()
    del result
    return Observed(seen, watch.read, fused)


@contextlib.contextmanager
def running(model: nn.Module, layers: Iterable[Layer]) -> Iterator[None]:
    """Within it every layer runs: one that has codes alone by the weight that they stand for."""
    with contextlib.ExitStack() as undo:
        for layer in layers:
            foreign = layer.foreign
            if foreign is None or foreign.runs:
                continue
            if foreign.weight is None:
                raise ValueError(
                    f"{_OP}: example_inputs are given, but '{layer.name}' does not run: {foreign.reason}"
                )
            undo.callback(_given(layer.linear, foreign.weight))
        for module in model.modules():
            if isinstance(module, nn.Embedding) and is_compressed(module):
                undo.callback(_given(module, quantized(module, scheme_of(module))))
        undo.enter_context(undisturbed(model))
        yield


def _given(module: nn.Module, weight: QuantizedTensor) -> Callable[[], None]:
    """Gives a module a dense weight; what is returned takes it back."""
    return replaced(module, "weight", nn.Parameter(weight.dequantize(), requires_grad=False))


def run(model: nn.Module, example_inputs: object) -> Any:
    """What a model gives, in eager and in eval mode, without gradients."""
    arguments, options = _arguments(example_inputs)
    with torch.no_grad(), _evaluating(model), in_eager():
        return model(*arguments, **options)


def _arguments(given: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(given, Tensor):
        return (given,), {}
    if isinstance(given, tuple | list):
        return given, {}
    if isinstance(given, Mapping):
        return (), given
    raise TypeError(
        f"{_OP}: example_inputs is a {type(given).__name__}; a tensor, a tuple of arguments, or a "
        "dict of keyword arguments is needed"
    )


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode, where every layer is called: torch's encoder layers have a path around theirs."""
    training = [module for module in model.modules() if module.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    _set_training(training, False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        _set_training(training, True)


def _set_training(modules: Sequence[nn.Module], training: bool) -> None:
    for module in modules:  # (not by train(), which goes to modules that were not training)
        module.training = training


def timings(layer: Layer, weight: PackedWeight, seen: Seen, activation: str | None) -> list[Timing]:
    """One for each class of rows that was seen, at the number that was seen most."""
    typical: dict[int, int] = {}
    for rows, _ in seen.rows.most_common():
        typical.setdefault(plans.row_class(rows), rows)
    found = []
    for rows in sorted(typical.values()):
        x = torch.linspace(-1, 1, rows * weight.shape[1], device=weight.device)
        x = x.view(rows, -1).to(seen.dtype)
        calls = _calls(layer, weight, x, activation)
        timer = plans.by_events if x.is_cuda else None
        with torch.no_grad():
            planned, dense = plans.medians(calls, of=min, timer=timer)
        found.append(Timing(rows, dense * 1e3, planned * 1e3))
    return found


def _calls(
    layer: Layer, weight: PackedWeight, x: Tensor, activation: str | None
) -> list[Callable[[], object]]:
    linear = layer.linear
    given = cast("Tensor | None", linear.bias)
    bias = None if given is None else given.detach().to(x.dtype)
    activated = ACTIVATIONS[activation]
    if layer.foreign is not None:
        return [
            lambda: packed_linear(x, weight, bias, activation=activation),
            lambda: activated(linear(x)),
        ]
    dense = matrix(linear).to(x.dtype)
    return [
        lambda: packed_linear(x, weight, bias, activation=activation),
        lambda: activated(functional.linear(x, dense, bias)),
    ]
