"""Trains and compares: ``python -m examples.learned_quantization [--epochs N]``."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from examples.learned_quantization.training import compare


def main() -> int:
    """Prints the accuracies."""
    parser = argparse.ArgumentParser(prog="examples.learned_quantization", description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    try:
        found = compare(("int4", "int2"), options.epochs)
    except ImportError as error:
        print(f"examples.learned_quantization: needs scikit-learn: {error}", file=sys.stderr)
        return 2
    table = Table("weights", "trained", "right answers", title="Handwritten digits")
    for (method, format), share in found.items():
        table.add_row(format, method, f"{share:.1%}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
