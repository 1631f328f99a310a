"""Runs the example: ``python -m examples.sparse_minilm [--sparsity 0.8 0.9] [--threads N]``."""

from __future__ import annotations

import argparse
import sys

import torch
from rich.console import Console

from examples.demo.model import Embedder, MissingModel
from examples.sparse_minilm.pruning import EXPLAINED, table, tried


def main() -> int:
    """Tries each sparsity, prints what strop did at the last one, and the table."""
    parser = argparse.ArgumentParser(prog="examples.sparse_minilm", description=__doc__)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8, 0.9])
    parser.add_argument("--threads", type=int, default=1, help="of torch and strop (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        embedder = Embedder()
    except MissingModel as error:
        print(f"examples.sparse_minilm: {error}", file=sys.stderr)
        return 2
    outcomes = [
        tried(embedder.model, embedder.embed_by, embedder.tokens, sparsity)
        for sparsity in options.sparsity
    ]
    console.print(outcomes[-1].report)
    console.print(table(outcomes))
    console.print(EXPLAINED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
