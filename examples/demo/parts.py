"""What a part of the demo is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from examples.demo.model import Embedder


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
    run: Callable[[Context], Path]
