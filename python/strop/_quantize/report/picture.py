"""The picture of a quantization report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from strop._core.report import size_text
from strop._quantize.report.choices import Choice
from strop._quantize.report.data import Losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart; shapes say the same again.
_INTEGERS, _FLOATS, _BLOCKS, _NF4 = "integers", "floats", "block floats (MX, NVFP4)", "NF4"
_LOOKS = {
    _INTEGERS: ("#0072B2", "o"),
    _FLOATS: ("#D55E00", "s"),
    _BLOCKS: ("#009E73", "^"),
    _NF4: ("#CC79A7", "D"),
}
_INK = "#333333"
# Where a label may go, seen from its point: beside it first, then around, then farther off.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (9, 18, 30, 44, 60)  # points


def draw(report: Losses, figure: Figure) -> None:
    """Error against size of the whole model, beside the error of each weight."""
    figure.set_size_inches(15, max(5.2, 0.4 * len(report.choices) + 2))
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _each_weight(right, report)
    points = _error_against_size(left, report)
    present = [kind for kind in _LOOKS if any(_kind(c) == kind for c in report.choices)]
    handles = [_point(left, math.nan, math.nan, kind) for kind in present]
    figure.legend(handles, present, loc="outside lower center", ncols=4, frameon=False)
    if points:
        _place_labels(left, figure, points)


def _kind(choice: Choice) -> str:
    if choice.format.block is not None:
        return _BLOCKS
    if choice.format.name == "nf4":
        return _NF4
    return _INTEGERS if choice.format.is_integer else _FLOATS


def _point(axes: Axes, x: float, y: float, kind: str) -> Any:
    """Pale inside, so that one shows through another."""
    colour, marker = _LOOKS[kind]
    look: dict[str, Any] = {"facecolors": f"{colour}40", "edgecolors": colour, "linewidths": 1.6}
    return axes.scatter(x, y, s=64, marker=marker, zorder=3, **look)


def _error_against_size(axes: Axes, report: Losses) -> list[tuple[float, float, str]]:
    """Returns the points and their labels."""
    totals = [report.total(choice.label).sqnr for choice in report.choices]
    ceiling = max((sqnr for sqnr in totals if math.isfinite(sqnr)), default=0.0) + 6
    points = []
    for choice, sqnr in zip(report.choices, totals, strict=True):
        label = choice.label
        if sqnr == math.inf:
            sqnr, label = ceiling, f"{label} (exact)"
        if math.isfinite(sqnr):
            points.append((100 / report.ratio(choice.label), sqnr, label))
            _point(axes, *points[-1][:2], _kind(choice))
    axes.set_xlabel(f"size of the whole model, % of its {size_text(report.model_size)}")
    axes.set_ylabel("SQNR of all weights, dB")
    axes.set_title("Error against size: better is up and to the left", fontsize=11, loc="left")
    axes.margins(0.16, 0.1)
    if not points:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no format has a finite SQNR", ha="center", transform=axes.transAxes)
    return points


@dataclass(frozen=True)
class _Box:
    """A rectangle in pixels, from its middle."""

    x: float
    y: float
    width: float
    height: float

    def shared(self, other: _Box) -> float:
        """The area that two have in common."""
        width = (self.width + other.width) / 2 - abs(self.x - other.x)
        height = (self.height + other.height) / 2 - abs(self.y - other.y)
        smaller = min(self.width, other.width), min(self.height, other.height)
        return max(min(width, smaller[0]), 0.0) * max(min(height, smaller[1]), 0.0)


def _place_labels(axes: Axes, figure: Figure, points: Sequence[tuple[float, float, str]]) -> None:
    """Each label beside its point, where it covers neither a point nor another label."""
    figure.draw_without_rendering()  # places the axes
    pixels = figure.dpi / 72
    frame = axes.get_window_extent()
    room = _Box((frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2, frame.width, frame.height)
    at = axes.transData.transform([point[:2] for point in points])
    taken = [_Box(x, y, 10 * pixels, 10 * pixels) for x, y in at]
    for (x, y, text), (across, up) in zip(points, at, strict=True):
        label = axes.annotate(text, (x, y), fontsize=9, color=_INK)
        extent = label.get_window_extent()
        label.remove()
        best, least = None, math.inf
        for distance in _DISTANCES:
            for right, above in _DIRECTIONS:
                box = _Box(
                    across + right * (distance * pixels + extent.width / 2),
                    up + above * (distance * pixels + extent.height / 2),
                    extent.width,
                    extent.height,
                )
                covered = box.width * box.height - box.shared(room)
                boxes = [box, *_along(across, up, right, above, distance, pixels)]
                covered += sum(one.shared(other) for one in boxes for other in taken)
                if covered < least - 1:  # nearer ones win
                    best, least = (right, above, distance, boxes), covered
        if best is not None:
            taken += best[-1]
            _label(axes, (x, y), text, best[:-1])


def _along(
    across: float, up: float, right: int, above: int, distance: int, pixels: float
) -> list[_Box]:
    """The line from a point to its label, where there is one, in small boxes."""
    steps = range(_DISTANCES[0] + 3, distance, 3) if distance > _DISTANCES[0] else ()
    size = 3 * pixels
    return [_Box(across + right * s * pixels, up + above * s * pixels, size, size) for s in steps]


def _label(axes: Axes, point: tuple[float, float], text: str, place: tuple[int, int, int]) -> None:
    right, above, distance = place
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
    line["relpos"] = ((1 - right) / 2, (1 - above) / 2)  # the near corner of the text
    label = axes.annotate(
        text,
        point,
        xytext=(right * distance, above * distance),
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[right],
        va={1: "bottom", 0: "center", -1: "top"}[above],
        fontsize=9,
        color=_INK,
        arrowprops=line if distance > _DISTANCES[0] else None,
    )
    label.set_in_layout(False)  # which has been measured


def _each_weight(axes: Axes, report: Losses) -> None:
    ordered = sorted(report.choices, key=lambda c: _rank(report.total(c.label).sqnr))
    rows, lowest = [], []
    for y, choice in enumerate(ordered):
        colour, marker = _LOOKS[_kind(choice)]
        values = np.array([weight.losses[choice.label].sqnr for weight in report.weights])
        places = y + np.linspace(-0.3, 0.3, values.size + 2)[1:-1]
        look: dict[str, Any] = {"color": colour, "marker": marker, "alpha": 0.6, "linewidths": 0}
        axes.scatter(values, places, s=16, zorder=3, **look)
        finite = values[np.isfinite(values)]
        if finite.size > 3:
            low, middle, high = np.percentile(finite, (25, 50, 75))
            axes.barh(y, high - low, left=low, height=0.72, color=colour, alpha=0.18, zorder=2)
            axes.plot([middle, middle], [y - 0.36, y + 0.36], color=colour, linewidth=2, zorder=4)
        exact = int(np.isposinf(values).sum())
        rows.append(f"{choice.label} ({exact} exact)" if exact else choice.label)
        lowest.append(_short(report.weights[int(np.argmin([_rank(v) for v in values]))].name))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("SQNR of a weight, dB (bar and shade: median and middle half)")
    axes.set_title("Weight by weight, upward in the model's order", fontsize=11, loc="left")
    names = axes.secondary_yaxis("right")
    names.set_yticks(range(len(rows)), lowest, fontsize=7)
    names.tick_params(length=0, labelcolor=_INK)
    names.spines["right"].set_visible(False)
    axes.annotate(
        "lowest weight",
        (1, 1),
        xytext=(5, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8,
        color=_INK,
    )


def _rank(sqnr: float) -> float:
    """Lets what is not a number, and would sort anywhere, be the lowest."""
    return -math.inf if math.isnan(sqnr) else sqnr


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
