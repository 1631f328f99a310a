"""Cases: what is measured, against which peers, and what is promised of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strop._bench.gpu import GpuCase

Call = Callable[[], object]
Medians = Mapping[str, float]


@dataclass(frozen=True)
class Bar:
    """A promise about a case: a figure of its medians, and its limit.

    Attributes:
        label: what the figure says, such as ``"x copy_"``.
        figure: the figure, from the median seconds of every contender.
        limit: what it has to reach, or must not exceed.
        at_least: whether the limit is the least or the most that is allowed.
        needs: contenders without which the figure cannot be had.

    """

    label: str
    figure: Callable[[Medians], float]
    limit: float
    at_least: bool = True
    needs: tuple[str, ...] = ()

    def kept(self, figure: float) -> bool:
        """Whether a figure keeps the promise."""
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True)
class Case:
    """One measurement: strop and its peers on the same data.

    Attributes:
        family: quantize, sparse, ...
        name: unique within the family.
        contenders: by name, a function that makes the data and returns the call; ``strop`` is
            among them. One that raises ImportError is left out and its reason noted.
        moved_bytes: read and written by a call, for its rate; 0 where memory is not the point.
        bars: what is promised.
        threads: of a contender, where they are not one.
        most_extra_kib: promised of the memory that a call of strop takes beside its tensors.
        images: that a call augments, for images a second; 0 where there are none.

    """

    family: str
    name: str
    contenders: Callable[[], Mapping[str, Callable[[], Call]]]
    moved_bytes: int = 0
    bars: tuple[Bar, ...] = ()
    threads: Mapping[str, int] | None = None
    most_extra_kib: int | None = None
    images: int = 0


_cases: dict[tuple[str, str], Case] = {}


def register(case: Case) -> None:
    """Adds a case to the registry."""
    key = (case.family, case.name)
    if key in _cases:
        raise ValueError(f"strop bench: case {key} is registered twice")
    _cases[key] = case


def families() -> tuple[str, ...]:
    """Families that have cases."""
    _load()
    return tuple(dict.fromkeys(family for family, _ in _cases))


def cases(family: str | None = None) -> Iterator[Case]:
    """The cases of one family, or of all, in the order in which they were registered."""
    _load()
    return (case for case in _cases.values() if family in (None, case.family))


def _load() -> None:
    # (importing registers them)
    for module in (
        "quantize",
        "quantize_codes",
        "quantize_gradient",
        "prune",
        "sparse",
        "sparse_model",
        "augment",
    ):
        importlib.import_module(f"strop._bench.{module}")


def gpu_cases(family: str | None = None) -> list[GpuCase]:
    """The cases that are measured on a GPU."""
    from strop._bench import augment_gpu, prune_gpu, quantize_gpu, sparse_gpu

    modules = (quantize_gpu, prune_gpu, sparse_gpu, augment_gpu)
    every = [case for module in modules for case in module.cases()]
    return [case for case in every if family in (None, case.family)]


def faster_than(peer: str, ratio: float) -> Bar:
    """Strop takes at most 1/ratio of a peer's time."""
    return Bar(f"x {peer}", lambda t: t[peer] / t["strop"], ratio, needs=(peer,))


def at_most_us(limit: float) -> Bar:
    """A call takes at most so many microseconds."""
    return Bar("us a call", lambda t: t["strop"] * 1e6, limit, at_least=False)


def at_least_gbps(moved_bytes: int, limit: float) -> Bar:
    """A call moves at least so many gigabytes a second."""
    return Bar("GB/s", lambda t: moved_bytes / t["strop"] / 1e9, limit)
