"""The demo's part on augmentation: photographs before and after random warps, and what a batch costs."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

import strop
from examples.demo.augment_picture import SIDE, Row, Sample, save
from examples.demo.parts import Context, name_missing, step
from strop._bench import measure, registry
from strop._bench.augment import cases as augment
from strop._bench.augment.photographs import resized, stand_ins, whole_photographs

# What is seen there, in the pixels of the whole photograph: left, top, right, bottom.
BOXES = {
    "astronaut": [(168, 60, 290, 205), (100, 235, 400, 512)],
    "chelsea": [(95, 60, 360, 290)],
    "coffee": [(125, 20, 470, 360)],
    "rocket": [(295, 60, 350, 330)],
    "stereo_motorcycle": [(75, 70, 700, 490)],
}
FILLS = ("constant", "nearest", "reflect", "wrap")


def regions(image: Tensor, boxes: Tensor) -> Tensor:
    """A mask [1, H, W] of what the boxes hold: an ellipse in each, numbered from 1."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes.tolist(), 1):
        across = (2 * x + 1 - left - right) / (right - left)
        down = (2 * y + 1 - top - bottom) / (bottom - top)
        mask[0][across**2 + down**2 <= 1] = number
    return mask


def sample(image: Tensor, boxes: list[tuple[int, int, int, int]]) -> Sample:
    """A photograph in the size of the sheet: the largest square in its middle, with boxes and mask."""
    _, height, width = image.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = resized(image[:, top : top + edge, left : left + edge], SIDE, SIDE)
    moved = torch.tensor(boxes, dtype=torch.float32) - torch.tensor([left, top, left, top])
    placed = (moved * (SIDE / edge)).clamp(0, SIDE)
    return Sample(square, placed, regions(square, placed))


def samples(context: Context) -> list[Sample]:
    """scikit-image's photographs, or patterns with a word on what is missing."""
    try:
        found = whole_photographs()
    except ImportError as error:
        context.console.print(
            f"augment: {error}; patterns stand in for photographs (pip install scikit-image)",
            style="yellow",
        )
        found = dict(zip(BOXES, stand_ins().values(), strict=False))
    return [sample(found[name], boxes) for name, boxes in BOXES.items()]


def drawn(count: int) -> Tensor:
    """Random matrices, the same on every run: rotation, shift, zoom and shear as torchvision means them."""
    generator = torch.Generator().manual_seed(3)
    u = 2 * torch.rand(count, 5, generator=generator) - 1
    shift = 0.2 * SIDE * u[:, 1:3]
    return strop.affine_matrix(20 * u[:, 0], shift, 0.8 + 0.1 * u[:, 3], 10 * u[:, 4], SIDE, SIDE)


def rows(every: list[Sample]) -> list[Row]:
    """Before, after with each fill, and after with mask and boxes along."""
    images = torch.stack([one.image for one in every])
    masks = torch.stack([one.mask for one in every])
    matrices = drawn(len(every))
    found = [Row("before", [*images], [one.boxes for one in every], [*masks])]
    for mode in FILLS:
        warped = strop.augment_images(images, matrices, fill_mode=mode, dtype=torch.uint8)
        found.append(Row(f'fill_mode="{mode}"', [*warped]))
    flipped = matrices.clone()  # (column j of the output is now what column SIDE - 1 - j was)
    flipped[:, :, 2] += (SIDE - 1) * flipped[:, :, 0]
    flipped[:, :, 0] *= -1
    warped = strop.augment_images(images, flipped, fill=128, dtype=torch.uint8)
    boxes = [
        strop.warp_boxes(one.boxes[None], m[None], size=(SIDE, SIDE))[0]
        for one, m in zip(every, flipped, strict=True)
    ]
    along = strop.warp_masks(masks, flipped)
    found.append(Row("flipped, fill=128,\nmask and boxes along", [*warped], boxes, [*along]))
    return found


def table(results: list[measure.Result]) -> Table:
    """Images a second of strop and of what is installed here."""
    grid = Table(title="64 photographs of 256x256, one thread", title_justify="left")
    for heading in ("pipeline", "by", "images a second", "strop is"):
        grid.add_column(heading, justify="left" if heading in ("pipeline", "by") else "right")
    for result in results:
        ours = result.medians["strop"]
        for name, seconds in result.medians.items():
            if name in augment.VARIANTS:
                continue
            ratio = "" if name == "strop" else f"{seconds / ours:.1f}x"
            told = result.case.name if name == "strop" else ""
            grid.add_row(told, name, f"{result.case.images / seconds:,.0f}", ratio)
    return grid


def run(context: Context) -> Path:
    """Warps, measures, prints the table, saves the sheet."""
    path = context.out / "augment.png"
    with step(context.console, "  warping five photographs, with four fill modes, masks and boxes"):
        save(rows(samples(context)), path)
    wanted = (augment.WHOLE, augment.BYTES, augment.NEAREST, augment.NORMALISED)
    cases = [case for case in registry.cases("augment") if case.name in wanted]
    with step(context.console, f"  timing {len(cases)} pipelines of 64 photographs"):
        results = measure.measure_all(cases)
    context.console.print(table(results))
    name_missing(context.console, (name for result in results for name in result.missing))
    return path
