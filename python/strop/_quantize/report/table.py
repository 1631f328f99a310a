"""The table of a quantization report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop._core.report import counted, size_text
from strop._quantize.report.data import Entry, LeftAlone, Losses

_HEADING = 8  # characters to a line
_LEAST_NAME = 24


def table(report: Losses) -> RenderableType:
    """A row a weight, a column a format; totals; what is left alone."""
    parts: list[RenderableType] = []
    if report.weights:
        parts += [_title("Signal to quantization noise of each weight, dB"), _weights(report)]
    if report.left_alone:
        many = counted(len(report.left_alone), "tensor")
        title = f"Left alone: {many}, {size_text(report.left_alone_size)}"
        parts += [_title(title, below=bool(parts)), _left_alone(report.left_alone)]
    return Group(*parts)


def _title(text: str, below: bool = False) -> Text:
    return Text("\n" * below + text, style="italic")


def _weights(report: Losses) -> Table:
    grid = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    grid.add_column("weight", overflow="fold", min_width=_LEAST_NAME, vertical="bottom")
    grid.add_column("bytes", justify="right", no_wrap=True)
    for choice in report.choices:
        grid.add_column(escape(_heading(choice.label)), justify="right", no_wrap=True)
    for weight in report.weights:
        figures = [decibels(weight.losses[choice.label].sqnr) for choice in report.choices]
        grid.add_row(_named(weight), size_text(weight.size), *figures)
    labels = [choice.label for choice in report.choices]
    totals = [report.total(label) for label in labels]
    rest = report.left_alone_size
    grid.add_section()
    grid.add_row(
        "all weights, dB",
        "",
        *(decibels(total.sqnr) for total in totals),
        style="bold",
    )
    sizes = [total.size.total for total in totals]
    grid.add_row(
        "all weights, bytes", size_text(report.weight_size), *(size_text(size) for size in sizes)
    )
    grid.add_row(
        "whole model, bytes", size_text(report.model_size), *(size_text(s + rest) for s in sizes)
    )
    grid.add_row(
        "whole model, ratio", "", *(f"{report.ratio(label):.2f}x" for label in labels), style="bold"
    )
    return grid


def _left_alone(entries: Sequence[LeftAlone]) -> Table:
    """What is alike but for the numbers in its name is one row."""
    grid = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    grid.add_column("name", overflow="fold", min_width=_LEAST_NAME)
    for heading in ("tensors", "shape", "dtype", "bytes"):
        grid.add_column(heading, justify="right", no_wrap=True)
    told = any(entry.unreadable for entry in entries)
    if told:
        grid.add_column("reason", overflow="fold")
    alike: dict[tuple[str, tuple[int, ...], str, str], list[LeftAlone]] = {}
    for entry in entries:
        pattern = re.sub(r"(?<![^.])\d+(?![^.])", "*", entry.name)
        reason = entry.reason if entry.unreadable else ""
        alike.setdefault((pattern, entry.shape, entry.dtype, reason), []).append(entry)
    for (pattern, shape, dtype, reason), group in alike.items():
        name = _named(group[0]) if len(group) == 1 else escape(pattern)
        dimensions = "x".join(map(str, shape)) or "()"
        size = size_text(sum(entry.size for entry in group))
        why = (f" {escape(reason)}",) if told else ()
        grid.add_row(name, str(len(group)), dimensions, dtype, size, *why)
    return grid


def _named(entry: Entry) -> str:
    """The name, and below it those of the same memory."""
    return "\n".join([escape(entry.name), *(f"= {escape(name)}" for name in entry.tied)])


def decibels(sqnr: float) -> str:
    """A ratio in dB; Inf is exact."""
    return "exact" if sqnr == math.inf else f"{sqnr:.1f}"


def _heading(label: str) -> str:
    """A label on short lines, broken at spaces and underscores alone."""
    lines = [""]
    for piece in re.findall(r"[^ _]*[ _]?", label):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > _HEADING:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
