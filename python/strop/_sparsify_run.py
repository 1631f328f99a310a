"""Runs a model to see how many rows of input its layers get, and measures the layers on them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from strop import _sparse_plan
from strop._sparse import _ACTIVATIONS, sparse_linear
from strop._sparse_weight import SparseWeight

_OP = "strop.sparsify"


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


def seen_rows(
    model: nn.Module, example_inputs: object, linears: Sequence[nn.Linear]
) -> dict[int, Seen]:
    """Rows of input by the id of the layer, from one run in eval mode without gradients."""
    arguments, options = _arguments(example_inputs)
    seen: dict[int, Seen] = {}

    def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = given[0] if given else named.get("input")
        columns = getattr(module, "in_features", 0)
        if isinstance(x, Tensor) and x.is_nested:
            x = x.values()
        if isinstance(x, Tensor) and columns and (rows := x.numel() // columns):
            seen.setdefault(id(module), Seen(Counter(), x.dtype)).rows[rows] += 1

    hooks = [linear.register_forward_pre_hook(note, with_kwargs=True) for linear in linears]
    try:
        with torch.no_grad(), _evaluating(model):
            model(*arguments, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


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


def timings(
    linear: nn.Linear, weight: SparseWeight, seen: Seen, activation: str | None
) -> list[Timing]:
    """One for each class of rows that was seen, at the number that was seen most."""
    typical: dict[int, int] = {}
    for rows, _ in seen.rows.most_common():
        typical.setdefault(_sparse_plan.row_class(rows), rows)
    found = []
    for rows in sorted(typical.values()):
        x = torch.randn(rows, linear.in_features, device=linear.weight.device).to(seen.dtype)
        calls = _calls(linear, weight, x, activation)
        timer = _sparse_plan.by_events if x.is_cuda else None
        with torch.no_grad():
            planned, dense = _sparse_plan.medians(calls, timer=timer)
        found.append(Timing(rows, dense * 1e3, planned * 1e3))
    return found


def _calls(
    linear: nn.Linear, weight: SparseWeight, x: Tensor, activation: str | None
) -> list[Callable[[], object]]:
    dense = linear.weight.detach().to(x.dtype)
    bias = None if linear.bias is None else linear.bias.detach().to(x.dtype)
    activated = _ACTIVATIONS[activation]
    return [
        lambda: sparse_linear(x, weight, bias, activation=activation),
        lambda: activated(functional.linear(x, dense, bias)),
    ]
