"""The picture of what became of a model's linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strop._core.report import size_text
from strop._models.report.data import Layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart.
_DENSE, _SAVED, _MEMORY = "#999999", "#009E73", "#0072B2"
_MOST = 60  # layers; the largest of more


def draw(report: Layers, figure: Figure) -> None:
    """Bytes of each layer, beside the time that it takes where that was measured."""
    layers = sorted(report.layers, key=lambda layer: -layer.dense_bytes)[:_MOST]
    order = {layer.name: i for i, layer in enumerate(report.layers)}
    layers.sort(key=lambda layer: order[layer.name])
    timed = any(layer.timings for layer in layers)
    figure.set_size_inches(14 if timed else 9, max(3.5, 0.32 * len(layers) + 1.8))
    axes = figure.subplots(1, 1 + timed, squeeze=False)[0]
    totals = report.totals()
    names = [_short(layer.name) for layer in layers]
    _bars(
        axes[0],
        names,
        {
            "dense": (_DENSE, [layer.dense_bytes / 1e6 for layer in layers]),
            "in memory": (_MEMORY, [layer.memory_bytes / 1e6 for layer in layers]),
            "saved": (_SAVED, [layer.saved_bytes / 1e6 for layer in layers]),
        },
    )
    axes[0].set_xlabel("MB")
    sizes = f"{size_text(totals['dense_bytes'])} dense, {size_text(totals['saved_bytes'])} saved"
    axes[0].set_title(f"Weights: {sizes}", fontsize=11, loc="left")
    if timed:
        _bars(
            axes[1],
            [""] * len(layers),
            {
                "dense": (_DENSE, [sum(t.dense_ms for t in x.timings) for x in layers]),
                "now": (_MEMORY, [sum(t.planned_ms for t in x.timings) for x in layers]),
            },
        )
        axes[1].set_xlabel("ms, for the rows that example_inputs gave")
        times = f"{totals['dense_ms']:.3g} ms dense, {totals['planned_ms']:.3g} ms now"
        axes[1].set_title(f"Time: {times}", fontsize=11, loc="left")


def _bars(axes: Axes, names: list[str], series: dict[str, tuple[str, list[float]]]) -> None:
    """Groups of bars, the first layer on top."""
    places = np.arange(len(names))
    height = 0.8 / len(series)
    for i, (label, (colour, values)) in enumerate(series.items()):
        axes.barh(
            places + (i - (len(series) - 1) / 2) * height, values, height, color=colour, label=label
        )
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
