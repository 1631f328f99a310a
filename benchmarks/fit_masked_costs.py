"""Measures and fits the cost table that plans of pruned weights go by: python -m benchmarks.fit_masked_costs

Writes the entry of one instruction set to python/strop/_linear/costs.json; the others stay. See Note
[Cost table] in python/strop/_linear/plans.py. Takes some minutes a set; wants a quiet machine. For a
lesser set than the machine's best, hold torch to it as well: its ATEN_CPU_CAPABILITY,
ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS, in the environment.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

import strop
from strop._bench.measure import pinned
from strop._linear import ops
from strop._linear import plans as plan

PATH = Path(__file__).parent.parent / "python" / "strop" / "_linear" / "costs.json"
SHAPES = [(64, 64), (128, 256), (256, 128), (256, 256), (256, 512), (384, 384), (512, 512)]
SHAPES += [(768, 768), (1024, 512), (1024, 1024), (3072, 512), (3072, 768), (768, 3072)]
SHAPES += [(2048, 2048), (4096, 4096)]
SPARSITIES = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97]
WAYS = ["mask", "quads", "pairs", "mask-16", "quads-16", "pairs-16"]
WAYS += ["dense", "dense-bfloat16", "dense-float16"]


def calls_of(
    shape: tuple[int, int], sparsity: float, number: int
) -> tuple[dict[str, Callable[[], object]], int]:
    """The ways to multiply by a random weight, and its number of nonzeros."""
    generator = torch.Generator().manual_seed(number)
    weight = torch.randn(shape, generator=generator)
    weight = torch.where(torch.rand(shape, generator=generator) < sparsity, 0, weight)
    x = torch.randn(plan.TYPICAL_ROWS[number], shape[1], generator=generator)
    calls: dict[str, Callable[[], object]] = {}
    for dtype, suffix in ((torch.float32, ""), (torch.bfloat16, "-16")):
        bits, values = ops.pack_masked(weight.to(dtype), None)
        for way in plan.candidates(number):
            layout = ops.layout(bits, values, shape[1], way)
            calls[way + suffix] = lambda layout=layout: ops.by_layout(x, layout, shape[0], None, "")
    calls["dense"] = lambda: torch.nn.functional.linear(x, weight)
    if sparsity == SPARSITIES[0]:  # (dense in 16 bits can be slow, and does not know of zeros)
        for dtype in (torch.bfloat16, torch.float16):
            short = x.to(dtype), weight.to(dtype)
            name = f"dense-{str(dtype).removeprefix('torch.')}"
            calls[name] = lambda short=short: torch.nn.functional.linear(*short)
    return calls, int(values.shape[0])


def fitted(rows: list[tuple[float, ...]]) -> list[float]:
    """(call, nonzeros, weights, rows of the weight), each of which costs something or nothing."""
    data = np.array(rows)
    scale = 1 / data[:, 4:]  # relative errors count alike
    solution, _ = nnls(data[:, :4] * scale, np.ones(len(data)))
    return [float(f"{value:.4g}") for value in solution]


def measure(numbers: list[int]) -> dict[tuple[str, str, int], list[float]]:
    """The figures of classes of rows, by way, place and class."""
    found: dict[tuple[str, str, int], list[tuple[float, ...]]] = {}
    cases = [(s, p, n) for s in SHAPES for p in SPARSITIES for n in numbers]
    for shape, sparsity, number in tqdm(cases, disable=None):
        calls, nonzeros = calls_of(shape, sparsity, number)
        weights = shape[0] * shape[1]
        times = plan.medians(list(calls.values()), clock=time.thread_time)
        for way, seconds in zip(calls, times, strict=True):
            packed = not way.startswith("dense")
            terms = (1.0, float(nonzeros if packed else 0), float(weights), float(shape[0]))
            found.setdefault((way, plan.place(weights), number), []).append((*terms, seconds))
    return {key: fitted(rows) for key, rows in found.items()}


def empty() -> dict[str, dict[str, list[list[float]]]]:
    """An entry in which every way takes a second."""
    classes = range(len(plan.CLASSES))
    return {w: {p: [[1.0, 0.0, 0.0, 0.0] for _ in classes] for p in plan.PLACES} for w in WAYS}


def main() -> None:
    """Measures one instruction set."""
    classes = range(len(plan.CLASSES))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", choices=strop.supported_isas(), default=strop.isa())
    parser.add_argument("--only", type=int, choices=classes, help="one class of rows; others stay")
    options = parser.parse_args()
    strop.set_isa(options.isa)
    table = json.loads(PATH.read_text()) if PATH.exists() else {}
    entry = empty() | table.get(plan.own_key(), {})
    table[plan.own_key()] = entry
    with pinned(1):
        figures = measure(list(classes) if options.only is None else [options.only])
    for (way, place, number), terms in figures.items():
        entry[way][place][number] = terms
    text = json.dumps(table, indent=1)
    text = re.sub(r"\[\s+([^\[\]]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    PATH.write_text(text + "\n")


if __name__ == "__main__":
    main()
