"""The picture of the augment family: images a second of strop and of each peer, by pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop._bench.augment import cases as augment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PALE, _OURS, _THEIRS, _FLOOR = "#2b2b2b", "#5a5a5a", "#2a6f97", "#c9ada7", "#dcdcd7"

# Cases that have a panel, and what is done there.
_PANELS = {
    augment.WHOLE: "warp + normalise, float32",
    augment.SMALLER: "warp to 224x224 + normalise, float32",
    augment.BYTES: "warp, uint8",
    augment.NEAREST: "warp a mask by nearest",
    augment.NORMALISED: "normalise + cast, float32",
    augment.FLIPPED: "flip + normalise, float32",
}


def rates(result: Mapping[str, Any]) -> dict[str, float]:
    """Images a second by contender, the fastest peer last; not of strop's own variants."""
    own = {label for label in result["seconds"] if label in augment.VARIANTS}
    found = {
        name: result["images"] / seconds
        for name, seconds in result["seconds"].items()
        if name not in own
    }
    peers = sorted((rate, name) for name, rate in found.items() if name != "strop")
    return {"strop": found["strop"]} | {name: rate for rate, name in peers[::-1]}


def save(measured: Mapping[str, Any], path: Path) -> None:
    """Draws it, from what a results file holds.

    Raises:
        ImportError: where matplotlib is not installed.

    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(layout="constrained")
    draw(measured, figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def draw(measured: Mapping[str, Any], figure: Figure) -> None:
    """A panel a pipeline, of bars on one scale; what was not measured is left out."""
    by_name = {result["name"]: result for result in measured["results"]}
    panels = [(title, rates(by_name[name])) for name, title in _PANELS.items() if name in by_name]
    counts = [len(found) for _, found in panels]
    figure.set_size_inches(9.5, 0.25 * sum(counts) + 0.36 * len(panels) + 0.9)
    ratios = {"height_ratios": counts}
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw=ratios)
    every: list[Axes] = list(grid[:, 0])
    for axes, (title, found) in zip(every, panels, strict=True):
        _panel(axes, title, found)
    every[0].set_xlim(0, 1.16 * max(max(found.values()) for _, found in panels))
    every[-1].set_xlabel("images a second", color=_PALE)
    every[-1].xaxis.set_major_formatter("{x:,.0f}")
    where = measured["machine"]
    figure.suptitle(
        f"64 photographs of 256x256, one thread of {where['processor']}, {where['isa']}",
        fontsize=11, x=0.01, ha="left", color=_INK,
    )  # fmt: skip


def _panel(axes: Axes, title: str, found: Mapping[str, float]) -> None:
    names = list(found)
    colours = [_OURS if n == "strop" else _FLOOR if n == "copy_" else _THEIRS for n in names]
    axes.barh(range(len(names)), list(found.values()), color=colours, height=0.74)
    axes.set_yticks(range(len(names)), names, fontsize=8.5, color=_INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for y, (name, rate) in enumerate(found.items()):
        ratio = "" if name == "strop" else f"   strop {found['strop'] / rate:.2g}x"
        note = f"  {rate:,.0f}{ratio}"
        axes.text(rate, y, note, va="center", fontsize=8.5, color=_INK if not ratio else _PALE)
    axes.set_title(title, fontsize=9.5, loc="left", color=_INK, pad=3)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
