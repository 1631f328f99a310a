"""The picture of the quantize part: error against bytes, and time against peers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

if TYPE_CHECKING:
    from examples.demo.quantize import Outcome

COLOURS = {"strop": "#1b4965", "torch": "#ca6702", "eager": "#9a8c98"}
SHARING = {"per tensor": "#ca6702", "per row": "#5fa8d3"}
GROUPS = "#1b4965"


def _error_against_bytes(axes: Any, outcomes: list[Outcome]) -> None:
    seen = set()
    for o in outcomes:
        sharing = o.recipe.sharing if o.recipe.group <= 0 else "groups"
        axes.scatter(
            o.megabytes,
            o.sqnr,
            s=46,
            color=SHARING.get(sharing, GROUPS),
            marker="o" if o.recipe.symmetric else "D",
            label=None if sharing in seen else sharing,
            zorder=3,
        )
        seen.add(sharing)
        group = f" g{o.recipe.group}" if o.recipe.group > 0 else ""
        left = sharing == "groups" and o.recipe.symmetric
        axes.annotate(
            f"{o.recipe.format}{group}",
            (o.megabytes, o.sqnr),
            xytext=(-7, 4) if left else (8, -3),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8,
            color="#333333",
        )
    axes.set_xlabel("weights, MB (codes, scales, zero points)")
    axes.set_ylabel("signal to quantization noise, dB")
    axes.set_title("Error against bytes (diamonds: asymmetric)", fontsize=11, loc="left")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(alpha=0.25)
    axes.margins(0.12)


def _time_against_peers(axes: Any, outcomes: list[Outcome]) -> None:
    rows = outcomes[::-1]
    for y, o in enumerate(rows):
        for shift, name in ((0.27, "strop"), (0.0, "torch"), (-0.27, "eager")):
            ms = o.ms.get(name)
            if ms is None:
                continue
            label = name if y == len(rows) - 1 else None
            axes.barh(y + shift, ms, height=0.25, color=COLOURS[name], label=label)
            text = f"{ms:.1f}" if name == "strop" else f"{ms / o.ms['strop']:.0f}x"
            axes.text(ms * 1.08, y + shift, text, va="center", fontsize=7, color="#333333")
    axes.set_yticks(range(len(rows)), [o.recipe.label for o in rows], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(1, max(max(o.ms.values()) for o in rows) * 2.2)
    axes.set_xlabel("milliseconds for all matrices (log scale), one thread")
    axes.set_title("Time against peers", fontsize=11, loc="left")
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 1.07), ncols=3, fontsize=8)
    axes.grid(axis="x", alpha=0.25)


def save(outcomes: list[Outcome], path: Path) -> None:
    """Draws and writes the picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6.4), layout="constrained")
    _error_against_bytes(left, outcomes)
    _time_against_peers(right, outcomes)
    for axes in (left, right):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle("strop.fake_quantize on the weights of all-MiniLM-L6-v2", fontsize=13)
    figure.savefig(path, dpi=140)
    plt.close(figure)
