"""Cases: what is measured, against which peers, and what is promised of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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
        family: quantize, masked, ...
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


SIDE = 4096
registered: dict[tuple[str, str], Case] = {}
"""Every case by its family and name."""


def register(case: Case) -> None:
    """Adds a case to the registry."""
    key = (case.family, case.name)
    if key in registered:
        raise ValueError(f"strop bench: case {key} is registered twice")
    registered[key] = case


def faster_than(peer: str, ratio: float) -> Bar:
    """Strop takes at most 1/ratio of a peer's time."""
    return Bar(f"x {peer}", lambda t: t[peer] / t["strop"], ratio, needs=(peer,))


def at_most_us(limit: float) -> Bar:
    """A call takes at most so many microseconds."""
    return Bar("us a call", lambda t: t["strop"] * 1e6, limit, at_least=False)


def at_least_gbps(moved_bytes: int, limit: float) -> Bar:
    """A call moves at least so many gigabytes a second."""
    return Bar("GB/s", lambda t: moved_bytes / t["strop"] / 1e9, limit)


def matrix(dtype: torch.dtype = torch.float32) -> Tensor:
    """A square matrix of normal numbers, the same ones each time."""
    return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(dtype)
