"""What a part of the demo is, and what it is given to run with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console


class DemoError(Exception):
    """A result that is not what the demo claims; ends the run with its message."""


@dataclass(frozen=True)
class Context:
    """What every part is given.

    Attributes:
        out: an existing folder for charts.
        threads: torch's number of threads, already set.
        console: where tables and notes go.

    """

    out: Path
    threads: int
    console: Console


@dataclass(frozen=True)
class Part:
    """One family of ops, shown on one real task.

    Attributes:
        name: as ``--only`` takes it; also the stem of the part's charts.
        title: one line for the heading.
        run: shows the part and returns the charts that it wrote. Raises :class:`DemoError` for a
            wrong result.

    """

    name: str
    title: str
    run: Callable[[Context], list[Path]]
