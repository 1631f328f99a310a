"""The table of what became of a model's linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop._core.report import counted, size_text
from strop._models.report.data import Converted, Entry, Layers, LeftAlone

_LEAST_NAME, _MOST_NAME = 24, 64  # characters that are not folded


def table(report: Layers) -> RenderableType:
    """A row a packed layer, and their totals; what is left alone, and why."""
    parts: list[RenderableType] = []
    if report.layers:
        parts += [
            Text(f"Packed: {counted(len(report.layers), 'layer')}", "italic"),
            _packed_table(report),
        ]
    if report.left_alone:
        size = size_text(sum(layer.dense_bytes for layer in report.left_alone))
        title = f"Left alone: {counted(len(report.left_alone), 'layer')}, {size}"
        parts += [Text("\n" * bool(parts) + title, "italic"), _left_alone(report.left_alone)]
    return Group(*parts) if parts else Text("no linear layers")


def _grid(entries: Sequence[Entry]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    longest = max(len(name) for entry in entries for name in (entry.name, *entry.tied))
    width = min(max(longest, _LEAST_NAME), _MOST_NAME)
    grid.add_column("layer", overflow="fold", min_width=width)
    for heading in ("shape", "pruned", "dense"):
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def _facts(entry: Entry) -> list[str]:
    name = "\n".join([escape(entry.name), *(f"= {escape(other)}" for other in entry.tied)])
    shape = "x".join(map(str, entry.shape))
    return [name, shape, f"{entry.sparsity:.1%}", size_text(entry.dense_bytes)]


def _packed_table(report: Layers) -> Table:
    grid, totals = _grid(report.layers), report.totals()
    timed = totals["dense_ms"] is not None
    measured = any(layer.sqnr is not None for layer in report.layers)
    for heading in ("saved", "in memory", *(("SQNR, dB",) if measured else ())):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("plan", no_wrap=True)
    for heading in ("rows", "dense, ms", "now, ms") if timed else ():
        grid.add_column(heading, justify="right", no_wrap=True)
    for layer in report.layers:
        sizes = [size_text(layer.saved_bytes), size_text(layer.memory_bytes)]
        sqnr = "" if layer.sqnr is None else f"{layer.sqnr:.1f}"
        timings = [
            "\n".join(str(one.rows) for one in layer.timings),
            "\n".join(f"{one.dense_ms:.3g}" for one in layer.timings),
            "\n".join(f"{one.planned_ms:.3g}" for one in layer.timings),
        ]
        row = [*sizes, *([sqnr] if measured else ()), _plan(layer), *(timings if timed else ())]
        grid.add_row(*_facts(layer), *row)
    grid.add_section()
    sizes = [size_text(totals[key]) for key in ("dense_bytes", "saved_bytes", "memory_bytes")]
    times = ["", f"{totals['dense_ms']:.3g}", f"{totals['planned_ms']:.3g}"] if timed else []
    row = [f"{totals['sparsity']:.1%}", *sizes, *([""] if measured else ()), "", *times]
    grid.add_row("all of them", "", *row, style="bold")
    return grid


def _plan(layer: Converted) -> str:
    """What it is packed as, the methods that are taken, and the activation that was fused."""
    methods = "/".join(dict.fromkeys(layer.methods.values()))
    parts = [layer.format] if layer.format else []
    parts += [f"{layer.activations} input"] if layer.activations else []
    parts += [f"{layer.plan}: {methods}"] if methods != "codes" else []
    fused = f" + {layer.activation}" if layer.activation else ""
    return f" {', '.join(parts)}{fused}"


def _left_alone(layers: Sequence[LeftAlone]) -> Table:
    grid = _grid(layers)
    grid.add_column("reason", overflow="fold", min_width=_LEAST_NAME)
    for layer in layers:
        grid.add_row(*_facts(layer), f" {escape(layer.reason)}")
    return grid
