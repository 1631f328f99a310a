"""A model in several numbers, by torch and by strop: bytes, times, and what its embeddings keep."""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

import strop

BATCHES = (1, 16)
NEIGHBOURS = 10
_TURNS = 5

Embed = Callable[[nn.Module], Tensor]
"""Unit vectors of some sentences by a model."""


@dataclass(frozen=True)
class Way:
    """A way to run the model.

    Attributes:
        name: in the table.
        change: makes it of a float32 model, in place or anew, given tokens to look at.
        trained: whether it wants training, which none here had.

    """

    name: str
    change: Callable[[nn.Module, Tensor], nn.Module]
    trained: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a way gave.

    Attributes:
        way: which it was.
        bytes: of the state dict.
        ms: by batch.
        cosines: of each sentence's embedding with float32's.
        kept: the share of the nearest neighbours in float32 that are still nearest.

    """

    way: Way
    bytes: int
    ms: Mapping[int, float]
    cosines: Tensor
    kept: float


def _packed(**options: Any) -> Callable[[nn.Module, Tensor], nn.Module]:
    def change(model: nn.Module, tokens: Tensor) -> nn.Module:
        strop.pack_model(model, (tokens,), only_if_faster=False, **options)
        return model

    return change


def _pruned(sparsity: float) -> Callable[[nn.Module, Tensor], nn.Module]:
    """The smallest weights of every linear layer set to zero, and skipped."""

    def change(model: nn.Module, tokens: Tensor) -> nn.Module:
        masks = {
            f"{name}.weight": strop.prune_mask(layer.weight, sparsity=sparsity)
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear)
        }
        strop.pack_model(model, (tokens,), masks=masks, plan="auto")
        return model

    return change


def _dynamic(model: nn.Module, tokens: Tensor) -> nn.Module:
    with warnings.catch_warnings():  # (deprecated; torch has no other int8 layers for a CPU)
        warnings.simplefilter("ignore")
        from torch.ao.quantization import quantize_dynamic

        made: nn.Module = quantize_dynamic(model, {nn.Linear}, torch.qint8)
        return made


WAYS = (
    Way("torch float32", lambda model, _: model),
    Way("torch bfloat16", lambda model, _: model.to(torch.bfloat16)),
    Way("torch dynamic int8", _dynamic),
    Way("strop int8, uint8 input", _packed(format="int8", activations="uint8")),
    Way("strop int8", _packed(format="int8")),
    Way("strop nf4, groups of 64", _packed(format="nf4", block_size=(1, 64))),
    Way("strop 80 % pruned", _pruned(0.8), trained=True),
    Way("strop 90 % pruned", _pruned(0.9), trained=True),
)


def stored_bytes(model: nn.Module) -> int:
    """What a model's state dict takes."""
    return sum(_bytes(value) for value in model.state_dict().values())


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple) else 0


def timed(models: Sequence[nn.Module], tokens: Tensor) -> list[float]:
    """Median milliseconds of models that take turns."""
    turns: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for turn in range(_TURNS + 1):
            for model, taken in zip(models, turns, strict=True):
                start = time.perf_counter()
                model(tokens)
                if turn:  # the first one warms up
                    taken.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(taken) for taken in turns]


def neighbours(vectors: Tensor, count: int) -> Tensor:
    """The nearest other vectors of each, by cosine, as numbers [vectors, count]."""
    near = vectors @ vectors.t()
    return near.fill_diagonal_(-2).topk(count, dim=1).indices


def share_kept(found: Tensor, reference: Tensor, count: int = NEIGHBOURS) -> float:
    """How many of the nearest neighbours of one set of vectors are those of another."""
    ours, theirs = neighbours(found, count), neighbours(reference, count)
    return float((ours[:, :, None] == theirs[:, None, :]).any(2).float().mean())


def compared(
    make: Callable[[], nn.Module],
    embed: Embed,
    tokens: Callable[[int], Tensor],
    ways: Sequence[Way] = WAYS,
) -> list[Outcome]:
    """Every way, of which the first is what the others are compared with.

    Args:
        make: a model with its original weights, a new one each time.
        embed: sentences by a model.
        tokens: a batch of so many rows to time.
        ways: to run it.

    """
    models = [way.change(make(), tokens(BATCHES[-1])) for way in ways]
    vectors = [embed(copy.deepcopy(model)).float() for model in models]
    ms = {batch: timed(models, tokens(batch)) for batch in BATCHES}
    return [
        Outcome(
            way,
            stored_bytes(models[i]),
            {batch: times[i] for batch, times in ms.items()},
            (vectors[i] * vectors[0]).sum(1),
            share_kept(vectors[i], vectors[0]),
        )
        for i, way in enumerate(ways)
    ]


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row a way; what wants training stands behind the others."""
    grid = Table(title="all-MiniLM-L6-v2, 128 tokens", title_justify="left")
    grid.add_column("")
    for heading in ("model MB", *(f"batch {b}, ms" for b in BATCHES)):
        grid.add_column(heading, justify="right")
    for heading in ("cosine", "worst", f"{NEIGHBOURS} nearest kept"):
        grid.add_column(heading, justify="right")
    first, trained = outcomes[0], False
    for o in outcomes:
        if o.way.trained and not trained:
            grid.add_section()
        trained = o.way.trained
        times = ((o.ms[batch], first.ms[batch] / o.ms[batch]) for batch in BATCHES)
        grid.add_row(
            o.way.name,
            f"{o.bytes / 1e6:.1f}",
            *(f"{ms:.3g} ({ratio:.2f}x)" for ms, ratio in times),
            f"{o.cosines.mean():.4f}",
            f"{o.cosines.min():.4f}",
            f"{o.kept:.1%}",
        )
    return grid


EXPLAINED = (
    "Times beside torch float32, one after the other in one process. cosine: of each sentence's embedding with "
    "float32's, mean and worst. Cosines flatter: nearest kept is the share of each sentence's ten nearest that "
    "are still among them. The pruned rows want training: the smallest weights were removed, and no more."
)
