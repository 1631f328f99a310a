"""Runs the demo: ``python -m examples.demo [--only PART] [--out DIR] [--threads N]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from examples.demo import augment, quantize, report, sparse
from examples.demo.model import Embedder, MissingModel
from examples.demo.parts import Context, Part

PARTS = [
    Part("quantize", quantize.run),
    Part("report", report.run),
    Part("sparse", sparse.run),
    Part("augment", augment.run),
]


def main() -> int:
    """Runs every part, or one."""
    parser = argparse.ArgumentParser(prog="examples.demo", description=__doc__)
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="run one part")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    parser.add_argument("--threads", type=int, default=1, help="of torch and strop (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        embedder = Embedder()
    except MissingModel as error:
        print(f"examples.demo: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    context = Context(embedder, options.out, console)
    for part in PARTS:
        if options.only in (None, part.name):
            picture = part.run(context)
            console.print(f"picture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
