"""What a part of the demo is, and how it tells what it does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from examples.demo.model import Embedder


@contextlib.contextmanager
def step(console: Console, told: str, name: str = "  that") -> Iterator[None]:
    """Says what is done, and afterwards how long it took."""
    console.print(f"{told} ...", markup=False)
    start = time.perf_counter()
    yield
    console.print(f"{name} took {time.perf_counter() - start:.1f} s", style="dim", markup=False)


def name_missing(console: Console, peers: Iterable[str]) -> None:
    """Names the peers that are not installed, in one line; says nothing where all are."""
    names = ", ".join(dict.fromkeys(peer.split(",")[0] for peer in peers))
    if names:
        console.print(f"not installed, so not compared with: {names}", style="yellow")


@dataclass(frozen=True)
class Context:
    """What every part works with."""

    embedder: Embedder
    out: Path
    console: Console


@dataclass(frozen=True)
class Part:
    """One family's part: prints a table, saves a picture and returns its path."""

    name: str
    told: str
    run: Callable[[Context], Path]
