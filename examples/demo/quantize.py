"""The demo's part on quantize: what each format costs, in bytes, in error and in time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

import strop
from examples.demo.parts import Context, step
from examples.demo.quantize_picture import save

TINY = torch.finfo(torch.float32).tiny
TURNS = 7


@dataclass(frozen=True)
class Recipe:
    """A format and how many columns share a scale: a number, -1 for a row, 0 for the tensor."""

    format: str
    group: int
    symmetric: bool = True

    @property
    def bits(self) -> int:
        """Of a stored code."""
        return strop.NumberFormat.get(self.format).bits

    @property
    def sharing(self) -> str:
        """Who shares a scale, in words."""
        return {0: "per tensor", -1: "per row"}.get(self.group, f"groups of {self.group}")

    @property
    def label(self) -> str:
        """The recipe, in words."""
        return f"{self.format}{'' if self.symmetric else ' asym.'}, {self.sharing}"

    @property
    def block_size(self) -> tuple[int, int] | None:
        """As fake_quantize takes it."""
        return (1, self.group) if self.group else None

    def blocks(self, weight: Tensor) -> int:
        """How many scales a weight has."""
        if not self.group:
            return 1
        columns = weight.shape[1]
        return weight.shape[0] * (math.ceil(columns / self.group) if self.group > 0 else 1)

    def stored_bytes(self, weight: Tensor) -> int:
        """Codes packed densely, scales and zero points."""
        each = 4 if self.symmetric else 5  # a float32 scale, and a zero point of one byte
        return math.ceil(weight.numel() * self.bits / 8) + each * self.blocks(weight)


RECIPES = [
    Recipe("int8", 0),
    Recipe("int8", -1),
    Recipe("int8", 128),
    Recipe("int6", -1),
    Recipe("int6", 64),
    Recipe("int5", 32),
    Recipe("int4", -1),
    Recipe("int4", 128),
    Recipe("int4", 64),
    Recipe("int4", 32),
    Recipe("uint4", 32, symmetric=False),
    Recipe("int3", 32),
    Recipe("uint3", 32, symmetric=False),
    Recipe("int2", 32),
]


@dataclass(frozen=True)
class Outcome:
    """One recipe on all weights."""

    recipe: Recipe
    megabytes: float
    sqnr: float
    cosine: float
    worst_cosine: float
    ms: dict[str, float]


def eager(weight: Tensor, recipe: Recipe) -> Tensor:
    """The same arithmetic as a user writes it with torch's own operators."""
    entry = strop.NumberFormat.get(recipe.format)
    low, high = entry.min, entry.max
    rows, columns = weight.shape
    width = recipe.group if recipe.group > 0 else columns
    x = (
        weight.reshape(1, -1)
        if recipe.group == 0
        else weight.reshape(rows, columns // width, width)
    )
    if recipe.symmetric:
        scale = (x.abs().amax(-1, keepdim=True) / ((high - low) / 2)).clamp(min=TINY)
        return ((x * (1 / scale)).round().clamp(low, high) * scale).reshape(weight.shape)
    bottom = x.amin(-1, keepdim=True).clamp(max=0)
    top = x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((top - bottom) / (high - low)).clamp(min=TINY)
    zero = (low - (bottom / scale).round()).clamp(low, high)
    codes = ((x * (1 / scale)).round() + zero).clamp(low, high)
    return ((codes - zero) * scale).reshape(weight.shape)


def torch_own(weight: Tensor, recipe: Recipe) -> Callable[[], Tensor] | None:
    """Torch's fake quantize with scales at hand, where it has the recipe at all."""
    entry = strop.NumberFormat.get(recipe.format)
    low, high = int(entry.min), int(entry.max)
    half = (high - low) / 2
    if recipe.group == 0:
        scale = float(weight.abs().max() / half)
        return lambda: torch.fake_quantize_per_tensor_affine(weight, scale, 0, low, high)
    if recipe.group == -1:
        scales = weight.abs().amax(1) / half
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        return lambda: torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, low, high)
    return None


def timed(weights: dict[str, Tensor], recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Strop's results and every contender's median milliseconds, all taking turns."""
    results = {name: torch.empty_like(w) for name, w in weights.items()}
    own = [torch_own(w, recipe) for w in weights.values()]

    def ours() -> None:
        for name, weight in weights.items():
            strop.fake_quantize(
                weight,
                format=recipe.format,
                block_size=recipe.block_size,
                symmetric=recipe.symmetric,
                out=results[name],
            )

    def as_user() -> None:
        for weight in weights.values():
            eager(weight, recipe)

    def torchs() -> None:
        for call in own:
            if call is not None:
                call()

    contenders = {"strop": ours, "eager": as_user}
    if all(call is not None for call in own):
        contenders["torch"] = torchs
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if turn:  # the first one warms up
                turns[name].append((time.perf_counter() - start) * 1e3)
    return results, {name: statistics.median(t) for name, t in turns.items()}


def tried(context: Context, original: Tensor, recipe: Recipe) -> Outcome:
    """One recipe: its error and its time; refuses to go on where strop and eager torch differ."""
    weights = context.embedder.matrices()
    results, ms = timed(weights, recipe)
    signal = noise = 0.0
    for name, weight in weights.items():
        if not torch.equal(results[name], eager(weight, recipe)):
            raise AssertionError(f"{name}: strop and eager torch differ for {recipe.label}")
        signal += float(weight.double().square().sum())
        noise += float((weight.double() - results[name].double()).square().sum())
    cosines = (context.embedder.embed(results) * original).sum(1)
    megabytes = sum(recipe.stored_bytes(w) for w in weights.values()) / 1e6
    sqnr = 10 * math.log10(signal / noise)
    return Outcome(recipe, megabytes, sqnr, float(cosines.mean()), float(cosines.min()), ms)


def table(outcomes: list[Outcome]) -> Table:
    """A row a recipe."""
    grid = Table(title="all-MiniLM-L6-v2, the 36 matrices of its layers", title_justify="left")
    grid.add_column("format")
    for heading in (
        "MB",
        "SQNR dB",
        "cosine",
        "worst",
        "strop ms",
        "torch ms",
        "ratio",
        "eager ms",
        "ratio",
    ):
        grid.add_column(heading, justify="right")
    for o in outcomes:
        ours, eager_ms, torch_ms = o.ms["strop"], o.ms["eager"], o.ms.get("torch")
        grid.add_row(
            o.recipe.label,
            f"{o.megabytes:.2f}",
            f"{o.sqnr:.1f}",
            f"{o.cosine:.4f}",
            f"{o.worst_cosine:.4f}",
            f"{ours:.2f}",
            "-" if torch_ms is None else f"{torch_ms:.1f}",
            "-" if torch_ms is None else f"{torch_ms / ours:.0f}x",
            f"{eager_ms:.1f}",
            f"{eager_ms / ours:.0f}x",
        )
    return grid


def run(context: Context) -> Path:
    """Tries every recipe, prints the table, saves the picture."""
    original = context.embedder.embed()
    told = f"  {len(RECIPES)} formats: error, embeddings, and times of strop, torch and eager torch"
    with step(context.console, told):
        bar = tqdm(RECIPES, desc="quantize", leave=False, disable=None)
        outcomes = [tried(context, original, recipe) for recipe in bar]
    context.console.print(table(outcomes))
    megabytes = sum(w.numel() * 4 for w in context.embedder.matrices().values()) / 1e6
    context.console.print(
        f"float32 takes {megabytes:.2f} MB. cosine: of {len(original)} sentence embeddings against "
        "the original model's, mean and worst. torch has no groups, and was given its scales; "
        "strop and eager chose theirs, and agree in every value (but for the sign of zeros). eager "
        "pays for fresh memory at each step, strop writes to a given output."
    )
    path = context.out / "quantize.png"
    save(outcomes, path)
    return path
