"""Runs the demo: ``python -m examples.demo [--only PART] [--out DIR] [--threads N]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from examples.demo import augment, packed, quantize, report
from examples.demo.model import Embedder, MissingModel
from examples.demo.parts import Context, Part, step
from strop._bench.measure import machine

PARTS = [
    Part("quantize", "the layers' 36 weights to each format and back", quantize.run),
    Part("report", "what each format would make of the whole checkpoint", report.run),
    Part(
        "packed",
        "the layers in codes and pruned: bytes, time, and what the embeddings keep",
        packed.run,
    ),
    Part("augment", "photographs warped, and a batch of them timed", augment.run),
]


def introduce(console: Console) -> None:
    """Says where this runs."""
    facts = machine()
    console.print(
        f"strop {facts['strop']} on {facts['processor']}, {facts['isa']}, torch {facts['torch']}, "
        f"threads: {torch.get_num_threads()}"
    )


def main() -> int:
    """Runs every part, or one."""
    parser = argparse.ArgumentParser(prog="examples.demo", description=__doc__)
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="run one part")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    parser.add_argument("--threads", type=int, default=1, help="of torch and strop (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    introduce(console)
    try:
        with step(console, "loading all-MiniLM-L6-v2, a sentence-embedding model", "loading"):
            embedder = Embedder()
    except MissingModel as error:
        print(f"examples.demo: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    context = Context(embedder, options.out, console)
    parts = [part for part in PARTS if options.only in (None, part.name)]
    for number, part in enumerate(parts, 1):
        place = f"[{number}/{len(parts)}] {part.name}"
        with step(console, f"{place}: {part.told}", place):
            console.print(f"picture: {part.run(context)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
