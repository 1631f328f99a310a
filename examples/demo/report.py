"""The demo's part on the report: what each format would make of the model, weight by weight."""

from __future__ import annotations

from pathlib import Path

import strop
from examples.demo.parts import Context


def run(context: Context) -> Path:
    """Reports on every tensor of the checkpoint, prints the table, saves the picture."""
    report = strop.quantization_report(context.embedder.weights)
    context.console.print(report)
    return report.plot(context.out / "report.png")
