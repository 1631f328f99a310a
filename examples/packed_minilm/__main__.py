"""Runs the example: ``python -m examples.packed_minilm [--threads N]``."""

from __future__ import annotations

import argparse
import sys

import torch
from rich.console import Console

import strop
from examples.demo.model import Embedder, MissingModel
from examples.packed_minilm.comparison import BATCHES, EXPLAINED, compared, table


def main() -> int:
    """Prints what strop does with each layer, and the table."""
    parser = argparse.ArgumentParser(prog="examples.packed_minilm", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of torch and strop (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        embedder = Embedder()
    except MissingModel as error:
        print(f"examples.packed_minilm: {error}", file=sys.stderr)
        return 2
    tokens = embedder.tokens(BATCHES[-1])
    console.print(strop.pack_model(embedder.model(), (tokens,), format="int8", activations="uint8"))
    console.print(table(compared(embedder.model, embedder.embed_by, embedder.tokens)))
    console.print(EXPLAINED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
