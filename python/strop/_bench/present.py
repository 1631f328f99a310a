"""Shows results: a table, JSON, a picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from strop._bench.measure import Result, machine


def to_dict(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was measured, and where."""
    return {"machine": machine(), "results": [result.to_dict() for result in results]}


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _bars(result: Result) -> tuple[str, str]:
    figures, limits = [], []
    for bar, figure in result.figures():
        colour = "green" if bar.kept(figure) else "red"
        figures.append(f"[{colour}]{figure:.3g} {bar.label}[/]")
        limits.append(f"{'>=' if bar.at_least else '<='} {bar.limit:g}")
    return "\n".join(figures), "\n".join(limits)


def table(results: Sequence[Result]) -> Table:
    """A row a case: strop's time and rate, its peers' times, what was promised, what came out."""
    grid = Table(title="strop against its peers, one thread unless said", title_justify="left")
    grid.add_column("case", max_width=44)
    grid.add_column("strop", justify="right", no_wrap=True)
    grid.add_column("GB/s", justify="right")
    grid.add_column("peers", justify="right")
    grid.add_column("figure", justify="right", no_wrap=True)
    grid.add_column("promised", justify="right", no_wrap=True)
    for result in results:
        peers = [f"{n} {duration(t)}" for n, t in result.medians.items() if n != "strop"]
        peers += [f"[dim]{name}: {reason}[/]" for name, reason in result.missing.items()]
        rate = result.rate()
        figures, limits = _bars(result)
        grid.add_row(
            result.case.name,
            duration(result.medians["strop"]),
            "" if rate is None else f"{rate:.1f}",
            "\n".join(peers),
            figures,
            limits,
        )
    return grid


def show(results: Sequence[Result], console: Console | None = None) -> None:
    """Prints the table, and where it was measured."""
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(results))
    where = machine()
    console.print(
        f"{where['processor']}, {where['isa']}; torch {where['torch']}; medians of calls that take "
        "turns in one process",
        style="dim",
    )


def gpu_table(measured: Mapping[str, Any]) -> Table:
    """A row a case that was measured on a GPU, from what a results file holds."""
    grid = Table(title=str(measured["machine"]["gpu"]), title_justify="left")
    grid.add_column("case", max_width=52)
    for name in ("bytes", "strop", "GB/s", "of copy", "of matrix", "peers"):
        grid.add_column(name, justify="right", no_wrap=name != "peers")
    for result in measured["results"]:
        seconds = result["seconds"]
        peers = [f"{n} {duration(t)}" for n, t in seconds.items() if n != "strop"]
        peers += [f"[dim]{name}: {reason}[/]" for name, reason in result["missing"].items()]
        shares = [result["share_of_copy"], result["share_of_matrix"]]
        grid.add_row(
            result["name"],
            f"{result['moved_bytes'] / 1e6:.0f} MB" if result["moved_bytes"] else "",
            duration(seconds["strop"]),
            f"{result['gb_per_s']:.0f}" if result["gb_per_s"] else "",
            *("" if share is None else f"{share:.0%}" for share in shares),
            "\n".join(peers),
        )
    where = measured["machine"]
    grid.caption = (
        f"a copy moves {where['copy_gb_per_s']:.0f} GB/s, a bfloat16 product reaches "
        f"{where['bfloat16_product_tflops']:.0f} TFLOP/s; torch {where['torch']}, CUDA {where['cuda']}"
    )
    return grid


def plot(results: Sequence[Result], path: Path) -> None:
    """A picture: how many times strop's time each peer takes.

    Raises:
        ImportError: where matplotlib is not installed.

    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [
        (result.case.name, peer, seconds / result.medians["strop"])
        for result in results
        for peer, seconds in result.medians.items()
        if peer != "strop" and "threads" not in peer
    ][::-1]
    figure, axes = plt.subplots(figsize=(10, 0.34 * len(rows) + 1.4), layout="constrained")
    colours = ["#2a6f97" if ratio >= 1 else "#c9ada7" for _, _, ratio in rows]
    axes.barh(range(len(rows)), [r for _, _, r in rows], color=colours, height=0.66)
    axes.set_yticks(range(len(rows)), [f"{name}  ·  {peer}" for name, peer, _ in rows], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1.0, color="#444444", linewidth=1)
    for y, (_, _, ratio) in enumerate(rows):
        axes.text(max(ratio, 1.0) * 1.05, y, f"{ratio:.3g}x", va="center", fontsize=8)
    axes.set_xlim(0.4, max(r for _, _, r in rows) * 2)
    axes.set_xlabel("the peer's time over strop's (log scale)")
    where = machine()
    axes.set_title(f"strop against its peers: {where['processor']}, {where['isa']}", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)
