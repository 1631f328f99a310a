"""The demo's part on the report: what each format would make of the model, weight by weight."""

from __future__ import annotations

from pathlib import Path

import strop
from examples.demo.parts import Context, step


def run(context: Context) -> Path:
    """Reports on every tensor of the checkpoint, prints the table, saves the picture."""
    weights = context.embedder.weights
    with step(context.console, f"  quantizing {len(weights)} tensors in eight formats"):
        report = strop.quantization_report(weights)
    context.console.print(report)
    return report.plot(context.out / "report.png")
