"""The contact sheet: a column a photograph, a row a way to warp it, boxes and masks drawn over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 320  # of a picture, pixel for pixel on the sheet
COLOURS = ((0, 158, 255), (255, 196, 0))  # of the first region and the second
_LEFT, _GAP, _DPI = 225, 6, 100


@dataclass(frozen=True)
class Sample:
    """A photograph uint8 [3, SIDE, SIDE], boxes [n, 4] and a mask uint8 [1, SIDE, SIDE] of its regions."""

    image: Tensor
    boxes: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Row:
    """A row of the sheet; boxes and masks where they are drawn."""

    caption: str
    images: list[Tensor]
    boxes: list[Tensor] | None = None
    masks: list[Tensor] | None = None


def tinted(image: Tensor, mask: Tensor | None) -> np.ndarray:
    """The image as [H, W, 3], with the mask's regions tinted."""
    found = image.permute(1, 2, 0).numpy().astype(np.float32)
    if mask is not None:
        for number, colour in enumerate(COLOURS, 1):
            there = mask[0].numpy() == number
            found[there] = 0.65 * found[there] + 0.35 * np.array(colour, np.float32)
    return found.astype(np.uint8)


def save(rows: list[Row], path: Path) -> None:
    """Draws the sheet."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    across = len(rows[0].images)
    width = _LEFT + across * (SIDE + _GAP)
    height = len(rows) * (SIDE + _GAP) + _GAP
    figure = plt.figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for i, row in enumerate(rows):
        bottom = height - (i + 1) * (SIDE + _GAP)
        figure.text(
            (_LEFT - 12) / width, (bottom + SIDE / 2) / height, row.caption,
            ha="right", va="center", fontsize=13, color="#2b2b2b", linespacing=1.5,
        )  # fmt: skip
        for j, image in enumerate(row.images):
            place = (_LEFT + j * (SIDE + _GAP), bottom, SIDE, SIDE)
            axes = figure.add_axes([n / (height if k % 2 else width) for k, n in enumerate(place)])
            axes.imshow(tinted(image, row.masks[j] if row.masks else None), interpolation="none")
            axes.set_axis_off()
            if row.boxes:
                _outline(axes, row.boxes[j])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def _outline(axes: Axes, boxes: Tensor) -> None:
    """Boxes, whose edges lie half a pixel before the centres that matplotlib counts from."""
    from matplotlib.patches import Rectangle

    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        colour = [c / 255 for c in COLOURS[number % len(COLOURS)]]
        size = right - left, bottom - top
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), *size, fill=False, color=colour, lw=2.5))
