"""The look that all charts of the demo share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#22303c"
FAINT = "#7b8794"
ACCENT = "#d1495b"

# From the coarsest to the finest of an ordered choice.
STEPS = ("#9aa5b1", "#e0a458", "#6fb1a0", "#3d84a8", "#2b4c7e")

# Peers of strop, from light to dark.
PEERS = ("#c9d3dc", "#9fb0bf", "#71869a")

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b5bec7",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.8,
    "xtick.color": "#4a5763",
    "ytick.color": "#4a5763",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


def panels(title: str, subtitle: str, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with a title, a line below it, and two panels side by side."""
    figure = Figure(figsize=size)
    axes = list(figure.subplots(1, 2))
    height = size[1]
    top = 1 - 1.3 / height
    figure.subplots_adjust(0.06, 0.62 / height, 0.975, top, wspace=0.3)
    figure.text(0.018, 1 - 0.42 / height, title, size=16, weight="bold", color=INK)
    figure.text(0.018, 1 - 0.72 / height, subtitle, size=10.5, color=FAINT)
    return figure, axes


def styled() -> Any:
    """A context in which charts have the style."""
    return mpl.rc_context(STYLE)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG."""
    figure.savefig(path, dpi=160, facecolor="white")
