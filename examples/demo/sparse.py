"""The demo's part on pruned layers: the model pruned to 80 and 90 %, in bytes and in time."""

from __future__ import annotations

from pathlib import Path

from examples.demo.parts import Context, step
from examples.sparse_minilm.pruning import EXPLAINED, table, tried

SPARSITIES = (0.8, 0.9)


def run(context: Context) -> Path:
    """Tries both sparsities, prints the table, saves a picture of the layers of the last."""
    embedder = context.embedder
    outcomes = []
    for sparsity in SPARSITIES:
        with step(
            context.console, f"  pruning to {sparsity:.0%}, replacing layers, timing both models"
        ):
            outcomes.append(tried(embedder.model, embedder.embed_by, embedder.tokens, sparsity))
    context.console.print(table(outcomes))
    context.console.print(EXPLAINED)
    return outcomes[-1].report.plot(context.out / "sparse.png")
