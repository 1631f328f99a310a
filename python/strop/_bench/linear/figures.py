"""What the pictures of the masked family show: speed-ups by sparsity and rows, and ceilings.

Measured apart from the drawing, into dictionaries that JSON holds, so that pictures can be drawn
again from a results file, and tests draw from figures that nobody measured.

Times are the processor time of one pinned thread. By the clock on the wall a neighbour on that core
does not slow contenders alike: short calls fit into a slice of the scheduler, long ones never do, and
the ratio of their medians came out five times too large (75x in place of 16x).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm

import strop
from strop._bench.linear import cases as masked
from strop._bench.linear import dense
from strop._bench.measure import machine, pinned
from strop._linear import plans
from strop._linear.masked_weight import MaskedWeight
from strop._linear.plans import medians

WEIGHTS = ((3072, 768), (4096, 4096))
SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
_SECONDS_A_CELL = 0.3
_LEAST_TURNS = 3  # of a call that takes a third of a second by itself
_MEMORY_BYTES = 256 << 20
_MATMUL_SIDE = 1024

Figures = dict[str, Any]
_Call = Callable[[], object]


def measured(seconds: float = _SECONDS_A_CELL) -> Figures:
    """Everything that the pictures show, and where it was measured; two minutes."""
    return {
        "machine": machine(),
        "speedups": speedups(seconds=seconds),
        "roofline": roofline(seconds=seconds),
    }


def way_of(weight: MaskedWeight, rows: int) -> str:
    """The way that a weight goes for so many rows."""
    method = plans.METHOD_OF[weight.methods[plans.row_class(rows)]]
    return plans.BY_AVX2.get(method, method)


def speedups(
    weights: Sequence[tuple[int, int]] = WEIGHTS,
    sparsities: Sequence[float] = SPARSITIES,
    rows: Sequence[int] = ROWS,
    seconds: float = _SECONDS_A_CELL,
) -> Figures:
    """The best dense layer's time over strop's under the default plan, and which way that took."""
    panels: list[Figures] = [
        {
            "shape": list(shape),
            "place": plans.place(shape[0] * shape[1]),
            "ratios": [[0.0] * len(sparsities) for _ in rows],
            "ways": [[""] * len(sparsities) for _ in rows],
        }
        for shape in weights
    ]
    with _one_thread(), _bar(len(weights) * len(sparsities) * len(rows), "speed-ups") as bar:
        for panel, (j, sparsity) in product(panels, list(enumerate(sparsities))):
            weight = masked.pruned(*panel["shape"], sparsity)
            packed = cast(MaskedWeight, strop.pack_weight(weight, rows=list(rows)))
            for i, count in enumerate(rows):
                ours, *others = _medians(_contenders(count, weight, packed), seconds)
                panel["ratios"][i][j] = min(others) / ours
                panel["ways"][i][j] = way_of(packed, count)
                bar.update()
    return {"sparsities": list(sparsities), "rows": list(rows), "panels": panels}


def roofline(
    shapes: Sequence[tuple[int, int, int]] = tuple(masked.SHAPES),
    sparsities: Sequence[float] = masked.SPARSITIES,
    seconds: float = _SECONDS_A_CELL,
    memory_bytes: int = _MEMORY_BYTES,
) -> Figures:
    """Useful operations, stored bytes and time of the benchmark's layers, and the ceilings here."""
    points = []
    found = ceilings(memory_bytes)
    with _one_thread(), _bar(len(shapes) * len(sparsities), "roofline") as bar:
        for (rows, k, n), sparsity in product(shapes, sparsities):
            if sparsity == sparsities[0]:  # again and again: a neighbour may have slowed them
                again = ceilings(memory_bytes)
                found = {name: max(best, again[name]) for name, best in found.items()}
            weight = masked.pruned(n, k, sparsity)
            packed = cast(MaskedWeight, strop.pack_weight(weight, rows=rows))
            way = way_of(packed, rows)
            ours = _contenders(rows, weight, packed)[0]
            (median,) = _medians([ours], seconds)
            points.append(
                {
                    "rows": rows,
                    "shape": [n, k],
                    "place": plans.place(n * k),
                    "sparsity": sparsity,
                    "way": way,
                    "flop": 2 * packed.nnz * rows,
                    "bytes": _bytes_read(packed, way),
                    "seconds": median,
                }
            )
            bar.update()
    return {"points": points, **found}


def _bytes_read(packed: MaskedWeight, way: str) -> int:
    """Those of a weight that a method reads."""
    form: torch.Tensor = getattr(packed, plans.FORM_OF[way])
    as_kept = packed.bits.nbytes + packed.values.nbytes if plans.FORM_OF[way] == "starts" else 0
    return form.nbytes + as_kept


def ceilings(memory_bytes: int = _MEMORY_BYTES) -> dict[str, float]:
    """Bytes a second from memory, operations a second in a product of friendly size: one thread."""
    x = torch.ones(memory_bytes // 4)
    across = x[: len(x) // 1024 * 1024].view(-1, 1024)
    half = len(x) // 2
    a, b = (torch.randn(_MATMUL_SIDE, _MATMUL_SIDE) for _ in range(2))
    out = torch.empty_like(a)
    with _one_thread():
        # The fastest of three, for no layer shall seem to read faster than memory.
        memory = max(
            x.nbytes / _fastest(x.sum),
            x.nbytes / _fastest(lambda: x[:half].copy_(x[half : 2 * half])),
            across.nbytes / _fastest(lambda: across @ across[0]),
        )
        peak = 2 * _MATMUL_SIDE**3 / _fastest(lambda: torch.mm(a, b, out=out))
    return {"memory_bytes_per_s": memory, "peak_flop_per_s": peak}


def _medians(calls: Sequence[_Call], seconds: float) -> list[float]:
    return medians(calls, seconds, _LEAST_TURNS, time.thread_time)


def _fastest(call: _Call) -> float:
    """Seconds of a call's best turn: a ceiling is what can be reached, not what is usual."""
    call()
    taken = []
    for _ in range(_LEAST_TURNS):
        before = time.thread_time()
        call()
        taken.append(time.thread_time() - before)
    return min(taken)


def _contenders(rows: int, weight: Tensor, packed: MaskedWeight) -> list[_Call]:
    """Strop and the dense layers on the same input."""
    x = torch.randn(rows, weight.shape[1], generator=torch.Generator().manual_seed(1))
    others = [make() for make in dense.layers(x, weight).values()]
    return [lambda: strop.packed_linear(x, packed), *others]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        with pinned(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _bar(total: int, what: str) -> Any:
    return tqdm(total=total, desc=what, disable=None, file=sys.stderr, leave=False)
