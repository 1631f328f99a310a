"""The demo's part on packed layers: the model in several numbers, in bytes, in time and in what stays."""

from __future__ import annotations

from pathlib import Path

import strop
from examples.demo.parts import Context, step
from examples.packed_minilm.comparison import BATCHES, EXPLAINED, compared, table


def run(context: Context) -> Path:
    """Prints the table, and saves a picture of the layers in int8."""
    embedder, console = context.embedder, context.console
    with step(console, "  packing the model in several ways, timing all of them"):
        outcomes = compared(embedder.model, embedder.embed_by, embedder.tokens)
    console.print(table(outcomes))
    console.print(EXPLAINED)
    tokens = embedder.tokens(BATCHES[-1])
    report = strop.pack_model(embedder.model(), (tokens,), format="int8", activations="uint8")
    return report.plot(context.out / "packed.png")
