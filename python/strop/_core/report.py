"""Reports: what a function found out about a model, or did to it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

_WIDTH = 120  # of the text, in characters, unless the table needs more


class Report(ABC):
    """What strop found out about a model, or did to it: a table, a dictionary, a picture.

    ``print(report)`` prints the table as plain text, 120 characters wide wherever it is printed
    (wider only where its columns would not fit otherwise); ``rich.print(report)`` fits it to the
    terminal, in colour.

    Example:
        >>> import strop, torch
        >>> report = strop.quantization_report(torch.nn.Linear(64, 8), formats=["int8"])
        >>> report
        <strop.Report: quantization of 1 weight in 1 format>
        >>> sorted(report.to_dict())
        ['formats', 'left_alone', 'totals', 'weights']

    """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything that is in the report, as JSON takes it.

        Sizes are in bytes, SQNR in dB. A figure that is not finite is None: JSON has no other word
        for it.
        """

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Writes a picture.

        Args:
            path: of the file; its suffix chooses the kind (``.png``, ``.svg``, ``.pdf``), its folder
                is made if there is none.

        Returns:
            The path.

        Raises:
            ImportError: where matplotlib is not installed.
            ValueError: where there is nothing to draw, or matplotlib cannot write such a file.

        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                f"strop.Report.plot: matplotlib is needed, and cannot be imported ({error}); "
                "pip install matplotlib"
            ) from error
        # (a figure by itself: pyplot would choose a backend for the whole process)
        figure = Figure(layout="constrained")
        self._draw(figure)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=140)
        return path

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """The table."""

    @abstractmethod
    def _draw(self, figure: Figure) -> None:
        """Draws the picture on an empty figure."""

    @abstractmethod
    def _summary(self) -> str:
        """The report in a few words."""

    def __str__(self) -> str:
        from rich.console import Console
        from rich.measure import Measurement

        table = self.__rich__()
        console = Console(width=10_000)
        needed = Measurement.get(console, console.options, table).minimum
        text = StringIO()
        Console(
            file=text,
            width=max(_WIDTH, needed),
            color_system=None,
            force_terminal=False,
            force_jupyter=False,
        ).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __repr__(self) -> str:
        return f"<strop.Report: {self._summary()}>"


def size_text(size: int) -> str:
    """Bytes in the unit that suits them: ``"2.36 MB"``."""
    for unit, many in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= many:
            value = size / many
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{size} B"


def counted(count: int, noun: str) -> str:
    """A count and its noun: ``"1 weight"``, ``"2 weights"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
