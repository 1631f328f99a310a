"""The pictures of the masked family, from the figures of :mod:`strop._bench.linear.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PALE = "#2b2b2b", "#8a8a8a"
_NOTE: dict[str, Any] = {"fontsize": 8.5, "color": "#5a5a5a"}
# Slower, as fast (in the middle), faster.
_SHADES = (
    (0.0, "#b3492e"),
    (0.25, "#e9a98f"),
    (0.5, "#f4f1ea"),
    (0.65, "#a3cbdd"),
    (0.83, "#2f7fa6"),
    (1.0, "#0b3c5d"),
)


class _Way(NamedTuple):
    """How a way is shown: Okabe and Ito's colours, which the colour-blind tell apart, and shapes."""

    letter: str
    what: str
    colour: str
    marker: str


_WAYS = {
    "mask": _Way("m", "a bit a weight", "#D55E00", "s"),
    "quads": _Way("q", "strips of four rows", "#0072B2", "o"),
    "pairs": _Way("p", "strips of two rows", "#009E73", "^"),
    "dense": _Way("d", "torch's own", "#CC79A7", "D"),
    "prepacked": _Way("o", "oneDNN, prepacked", "#F0E442", "D"),
}
_PLACES = {
    "near": "fits the second-level cache",
    "cached": "fits the last-level cache",
    "streamed": "comes from memory",
}


def save(figures: Mapping[str, Any], heatmap: Path, roofline: Path) -> None:
    """Draws both pictures.

    Raises:
        ImportError: where matplotlib is not installed.

    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for path, draw in ((heatmap, draw_heatmap), (roofline, draw_roofline)):
        figure = plt.figure(layout="constrained")
        draw(figures, figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=140)
        plt.close(figure)


def draw_heatmap(figures: Mapping[str, Any], figure: Figure) -> None:
    """How many times as fast as the best dense layer, by sparsity and rows, a panel a weight."""
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    speedups = figures["speedups"]
    panels = speedups["panels"]
    across, down = len(speedups["sparsities"]), len(speedups["rows"])
    figure.set_size_inches(
        max(8.0, len(panels) * (0.62 * across + 0.4) + 1.6), max(3.6, 0.52 * down + 2.2)
    )
    colours = LinearSegmentedColormap.from_list("faster", _SHADES)
    logs = [np.log2(np.array(panel["ratios"])) for panel in panels]
    # Half and twice at least, so that noise around 1x stays pale.
    low = min(-1.0, *(float(log.min()) for log in logs))
    high = max(1.0, *(float(log.max()) for log in logs))
    norm = TwoSlopeNorm(0.0, low, high)
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel, log in zip(every, panels, logs, strict=True):
        mesh = axes.pcolormesh(log, cmap=colours, norm=norm, edgecolors="white", linewidth=1.5)
        for (i, j), value in np.ndenumerate(log):
            ink = _ink_on(colours(norm(value)))
            ratio, letter = _number(panel["ratios"][i][j]), _WAYS[panel["ways"][i][j]].letter
            axes.text(j + 0.5, i + 0.48, ratio, ha="center", va="center", color=ink, size=10)
            axes.text(j + 0.94, i + 0.94, letter, ha="right", va="bottom", color=ink, size=6.5)
        axes.set_xticks(np.arange(across) + 0.5, [f"{s:.0%}" for s in speedups["sparsities"]])
        axes.set_yticks(np.arange(down) + 0.5, [str(rows) for rows in speedups["rows"]])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("weights pruned")
        size = f"{4e-6 * math.prod(panel['shape']):.2g} MB"
        title = f"{panel['shape']}: {size} if dense, {_PLACES[panel['place']]}"
        axes.set_title(title, fontsize=10, loc="left")
    every[0].invert_yaxis()
    every[0].set_ylabel("rows of input")
    ticks = np.arange(math.ceil(low), math.floor(high) + 1)
    bar = figure.colorbar(mesh, ax=list(every), ticks=ticks, pad=0.01, aspect=30)
    bar.ax.set_yticklabels([f"{2.0**tick:g}x" for tick in ticks])
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    _title(figure, figures, "packed_linear: how many times as fast as the best dense layer")
    taken = {way for panel in panels for row in panel["ways"] for way in row}
    legend = "      ".join(
        f"{way.letter}  {name}: {way.what}" for name, way in _WAYS.items() if name in taken
    )
    figure.supxlabel(f"letters: the way that the default plan took      {legend}", **_NOTE)


def draw_roofline(figures: Mapping[str, Any], figure: Figure) -> None:
    """Useful operations a second against useful operations a byte, under what the machine reaches."""
    from matplotlib.ticker import LogLocator, NullLocator

    found = figures["roofline"]
    bandwidth, peak = found["memory_bytes_per_s"], found["peak_flop_per_s"]
    shapes: dict[tuple[int, ...], list[tuple[float, float, Mapping[str, Any]]]] = {}
    for point in found["points"]:
        at = (point["flop"] / point["bytes"], point["flop"] / point["seconds"] / 1e9, point)
        shapes.setdefault((point["rows"], *point["shape"]), []).append(at)
    figure.set_size_inches(9.5, 6.2)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for points in shapes.values():
        xs, ys, _ = zip(*points, strict=True)
        axes.plot(xs, ys, color=_PALE, linewidth=0.8, zorder=1)
        for x, y, point in points:
            _mark(axes, x, y, point)
    _roof(axes, bandwidth, peak)
    lowest: dict[int, tuple[float, float]] = {}
    for (rows, *_), points in shapes.items():
        x, y, _ = min(points, key=lambda at: at[1])
        lowest[rows] = min(lowest.get(rows, (x, y)), (x, y), key=lambda at: at[1])
    for rows, place in lowest.items():
        text = f"{rows} row{'s' if rows > 1 else ''}"
        axes.annotate(
            text, place, (0, -14), textcoords="offset points", ha="center", va="top", **_NOTE
        )
    axes.margins(y=0.14)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(
        "useful operations (2 x nonzeros x rows) a byte of the weight as it is laid out"
    )
    axes.set_ylabel("useful GFLOP/s")
    axes.grid(alpha=0.2, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    _roofline_legend(axes, {point["way"] for point in found["points"]})
    _title(figure, figures, "packed_linear under the machine's roof")


def _mark(axes: Axes, x: float, y: float, point: Mapping[str, Any]) -> None:
    """A layer: smaller the sparser, hollow where the dense weight comes from memory."""
    way = _WAYS[point["way"]]
    face = way.colour if point["place"] != "streamed" else "white"
    size = 25 + 90 * (1 - point["sparsity"])
    look: dict[str, Any] = {"facecolors": face, "edgecolors": way.colour, "linewidths": 1.4}
    axes.scatter(x, y, s=size, marker=way.marker, zorder=3, **look)


def _roof(axes: Axes, bandwidth: float, peak: float) -> None:
    """Both ceilings, from the left edge of the picture to its right one."""
    knee = peak / bandwidth
    left, right = axes.get_xlim()
    left, right = min(left, knee / 2), max(right, knee * 2)
    xs, ys = (left, knee, right), (left * bandwidth / 1e9, peak / 1e9, peak / 1e9)
    axes.plot(xs, ys, color=_INK, linewidth=1.6, zorder=2)
    axes.set_xlim(left, right)
    note = _NOTE | {"color": _INK, "textcoords": "offset points"}
    axes.annotate(
        f"{peak / 1e9:.0f} GFLOP/s: torch's product of two 1024x1024 matrices",
        (right, peak / 1e9), (0, 5), ha="right", va="bottom", **note,
    )  # fmt: skip
    high = 0.7 * knee  # on the slope, with room beside it
    axes.annotate(
        f"memory, {bandwidth / 1e9:.1f} GB/s: torch's fastest\nof sum, copy_, matrix-vector product",
        (high, high * bandwidth / 1e9), (-8, 0), ha="right", va="bottom", **note,
    )  # fmt: skip


def _roofline_legend(axes: Axes, taken: set[str]) -> None:
    look: dict[str, Any] = {"linestyle": "none", "markersize": 7}
    handles = []
    for name, way in _WAYS.items():
        if name in taken:
            text = f"{name}: {way.what}"
            handles += axes.plot([], [], color=way.colour, marker=way.marker, label=text, **look)
    for text, face in (
        ("filled: the dense weight fits a cache", _PALE),
        ("hollow: it does not", "white"),
    ):
        handles += axes.plot([], [], "o", color=_PALE, markerfacecolor=face, label=text, **look)
    handles += axes.plot([], [], " ", label="the smaller, the sparser")
    axes.legend(handles=handles, loc="lower right", frameon=False, fontsize=8)


def _ink_on(colour: Sequence[float]) -> str:
    """What can be read on a colour."""
    red, green, blue = colour[:3]
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def _number(ratio: float) -> str:
    """Two digits, as many as medians of a shared machine are good for."""
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.2f}" if ratio < 0.995 else f"{ratio:.1f}"


def _title(figure: Figure, figures: Mapping[str, Any], text: str) -> None:
    where = figures["machine"]
    facts = f"processor time of one thread, {where['processor']}, {where['isa']}; torch {where['torch']}"
    figure.suptitle(f"{text}\n", fontsize=12, x=0.02, ha="left", color=_INK)
    figure.text(0.02, 1 - 0.38 / figure.get_figheight(), facts, **_NOTE)
