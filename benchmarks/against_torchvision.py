"""Measures the whole pipeline of augmentation against torchvision: make bench-torchvision

Runs under torchvision's own environment, which has another torch than the rest; strop's libraries were
copied there and load on it. Writes results/<machine>-torchvision.json and the docs' table from all such
files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys

import torch
from torch import Tensor

import strop
from benchmarks import pages
from benchmarks.__main__ import machine_name
from strop._bench import measure, present, registry
from strop._bench.augment import cases as augment
from strop._bench.augment.photographs import photographs

PEERS = ("torchvision", "albumentationsx", "kornia", "opencv-python-headless")
MODULES = ("torchvision", "albumentations", "kornia", "cv2", "skimage")


def torchvisions(x: Tensor, angle: float, move: list[int], zoom: float, shear: float) -> Tensor:
    """What torchvision's affine makes of images from 0 to 1."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    linear = InterpolationMode.BILINEAR
    return functional.affine(x, angle, move, zoom, [shear, 0.0], linear)


def strops(x: Tensor, angle: float, move: list[int], zoom: float, shear: float) -> Tensor:
    """What strop makes of them, by the matrix of the same arguments."""
    count = len(x)
    matrices = strop.affine_matrix(
        torch.full((count,), angle),
        torch.tensor([move], dtype=torch.float32).expand(count, 2),
        torch.full((count,), zoom),
        torch.tensor([[shear, 0.0]]).expand(count, 2),
        *x.shape[-2:],
    )
    return strop.augment_images(x, matrices)


def check_agreement(most: float = 1e-3) -> None:
    """AssertionError where strop and torchvision make different pictures of the same arguments."""
    x = photographs(8).float() / 255
    for arguments in ((20.0, [0, 0], 1.0, 0.0), (-13.0, [21, -9], 1.1, 7.0)):
        off = float((strops(x, *arguments) - torchvisions(x, *arguments)).abs().max())
        if off > most:
            raise AssertionError(f"affine{arguments}: strop and torchvision differ by {off:.1e}")


def main() -> int:
    """Checks, measures, writes, prints."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        told = "make bench-torchvision makes an environment that has them"
        print(
            f"against_torchvision: {', '.join(missing)} not installed here: {told}", file=sys.stderr
        )
        return 1
    check_agreement()
    results = measure.measure_all([c for c in registry.cases("augment") if c.name == augment.WHOLE])
    measured = present.to_dict(results)
    versions = {name: importlib.metadata.version(name) for name in PEERS}
    measured["machine"] = measured["machine"] | {"peers": versions}
    path = pages.RESULTS / f"{machine_name(measured['machine'])}-torchvision.json"
    path.write_text(json.dumps(measured, indent=2) + "\n")
    present.show(results)
    pages.write()
    print(f"wrote {path}, and the tables of the docs", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
