"""A model pruned by magnitude, and the same model with its layers replaced: results, bytes, times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

import strop

BATCHES = (1, 16)
MOST_OFF = 1e-4  # between embeddings, unit vectors, of the two models
_TURNS = 5

Embed = Callable[[nn.Module], Tensor]
"""Unit vectors of some sentences by a model."""


@dataclass(frozen=True)
class Outcome:
    """One sparsity.

    Attributes:
        sparsity: of every linear layer.
        report: what strop did with each layer.
        off: the largest difference between the two models' embeddings.
        cosines: of each sentence's embedding with the model's that was not pruned.
        bytes: of the state dicts, dense and sparse; of the linear layers alone, likewise.
        ms: by batch, dense and sparse.

    """

    sparsity: float
    report: strop.Report
    off: float
    cosines: Tensor
    bytes: tuple[int, int]
    layer_bytes: tuple[int, int]
    ms: Mapping[int, tuple[float, float]]


def prune(model: nn.Module, sparsity: float) -> None:
    """Sets the smallest weights of every linear layer to zero: what pruned checkpoints are."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                mask = strop.prune_mask(layer.weight, sparsity=sparsity)
                layer.weight.masked_fill_(~mask, 0)


def stored_bytes(model: nn.Module) -> int:
    """What a model's state dict takes."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def timed(models: tuple[nn.Module, nn.Module], tokens: Tensor) -> tuple[float, float]:
    """Median milliseconds of both models, which take turns."""
    turns: list[list[float]] = [[], []]
    with torch.inference_mode():
        for turn in range(_TURNS + 1):
            for model, taken in zip(models, turns, strict=True):
                start = time.perf_counter()
                model(tokens)
                if turn:  # the first one warms up
                    taken.append((time.perf_counter() - start) * 1e3)
    dense, sparse = map(statistics.median, turns)
    return dense, sparse


def tried(
    make: Callable[[], nn.Module], embed: Embed, tokens: Callable[[int], Tensor], sparsity: float
) -> Outcome:
    """Prunes, replaces, compares; refuses to go on where the two models differ.

    Args:
        make: a model with its original weights, a new one each time.
        embed: sentences by a model.
        tokens: a batch of so many rows to time.
        sparsity: of each linear layer.

    """
    original = embed(make())
    dense, sparse = make(), make()
    prune(dense, sparsity)
    sparse.load_state_dict(dense.state_dict())
    outside = stored_bytes(dense) - sum(
        stored_bytes(layer) for layer in dense.modules() if isinstance(layer, nn.Linear)
    )

    # (run once, which shows the activations that may become a part of their layers)
    report = strop.sparsify(sparse, (tokens(BATCHES[-1]),), plan="table")

    masked = embed(dense)
    off = float((embed(sparse) - masked).abs().max())
    if off > MOST_OFF:
        raise AssertionError(f"embeddings of the sparse model are off by {off:.1e}")
    both = stored_bytes(dense), stored_bytes(sparse)
    return Outcome(
        sparsity,
        report,
        off,
        (masked * original).sum(1),
        both,
        (both[0] - outside, both[1] - outside),
        {batch: timed((dense, sparse), tokens(batch)) for batch in BATCHES},
    )


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def table(outcomes: list[Outcome]) -> Table:
    """A row a sparsity."""
    grid = Table(title="all-MiniLM-L6-v2, pruned by magnitude, 128 tokens", title_justify="left")
    grid.add_column("pruned")
    for heading in ("linears MB", "model MB", *(f"batch {b}, ms" for b in BATCHES)):
        grid.add_column(heading, justify="right")
    for heading in ("off by", "cosine", "worst"):
        grid.add_column(heading, justify="right")
    for o in outcomes:
        sizes = [(a / 1e6, b / 1e6) for a, b in (o.layer_bytes, o.bytes)]
        grid.add_row(
            f"{o.sparsity:.0%}",
            *(f"{dense:.1f} -> {sparse:.1f}" for dense, sparse in sizes),
            *(f"{_ms(a)} -> {_ms(b)} ({a / b:.1f}x)" for a, b in (o.ms[n] for n in BATCHES)),
            f"{o.off:.0e}",
            f"{o.cosines.mean():.3f}",
            f"{o.cosines.min():.3f}",
        )
    return grid


EXPLAINED = (
    "Each cell: the masked dense model -> the same with its layers replaced by strop.sparsify. off by: "
    "between the embeddings of the two. cosine: with the embeddings of the model that was not pruned, "
    "mean and worst. That is what magnitude pruning costs without retraining: prune while training, or by "
    "a method that looks at the activations, and replace the layers at the end."
)
