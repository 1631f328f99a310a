"""Which cases there are: those of every family."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from strop._bench.augment import gpu as of_augment
from strop._bench.case import Case, registered
from strop._bench.gpu import GpuCase
from strop._bench.linear import gpu as of_linear
from strop._bench.prune import gpu as of_prune
from strop._bench.quantize import gpu as of_quantize

_MODULES = (
    *("quantize.cases", "quantize.codes", "quantize.gradient", "prune.cases"),
    *("linear.cases", "linear.codes", "linear.model", "augment.cases"),
)


def families() -> tuple[str, ...]:
    """Families that have cases."""
    _load()
    return tuple(dict.fromkeys(family for family, _ in registered))


def cases(family: str | None = None) -> Iterator[Case]:
    """The cases of one family, or of all, in the order in which they were registered."""
    _load()
    return (case for case in registered.values() if family in (None, case.family))


def _load() -> None:
    for module in _MODULES:  # importing registers them
        importlib.import_module(f"strop._bench.{module}")


def gpu_cases(family: str | None = None) -> list[GpuCase]:
    """The cases that are measured on a GPU."""
    modules = (of_prune, of_linear, of_augment, of_quantize)
    every = [case for module in modules for case in module.cases()]
    return [case for case in every if family in (None, case.family)]
