"""Which way a pruned layer runs for how many rows of input, and how long each way takes.

Note [Cost table]
The time of a way is taken to be ``call + a * nonzeros + b * weights + c * (rows of the weight)``
seconds, for each class of rows of the input, for weights that (dense) fit the second-level cache,
those that fit the last level, and those that fit none.
``benchmarks/fit_sparse_costs.py`` measures and fits the figures; they are kept for each instruction
set, and apart for processors whose vector units are half as wide as the set's (``avx2-narrow``; the
figures of ``avx2`` come from measurements on a Zen 3). A set without an entry goes by that of avx2.
Values of 16 bits have ways of their own (``quads-16``), and so has dense in bfloat16 and float16
(``dense-bfloat16``). Where an entry lacks the first, the float32 figures hold; where it lacks the
second, or was measured on a processor with bfloat16 arithmetic and this one has none, dense is taken
to be four times slower than float32, and for one row a little faster: it then waits for memory.
The sparse way has to be predicted a seventh faster than dense to be chosen, a quarter for one row: a
table is never quite the machine at hand.

A GPU needs no table. Few rows of input wait for memory alone, so that a way's time goes by the bytes
that it moves: ``bitmap`` reads bits and values, and is chosen where dense is 1.4 times as many bytes.
More rows are ``dense``, or ``unpack``: the dense weight made anew in each call, for what it saves in
memory.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch

from strop import _C

CLASSES = (1, 4, 8, 16, 32, 128, None)
"""The most rows of each class; the last has no end. (As in csrc/torch/sparse_calls.h.)"""
TYPICAL_ROWS = (1, 2, 8, 16, 32, 128, 512)
"""What a class is measured at: of 2 to 4 the rows at which dense does best beside the sparse way."""
WAYS = ("mask", "quads", "pairs", "dense", "bitmap", "unpack")
"""What a plan chooses among; its numbers begin at 1. (As in csrc/torch/sparse_calls.h.)"""
LAYOUTS = WAYS[:3]
"""Those of a CPU, each by a layout of its own."""
BY_STARTS = WAYS[4:]
"""Those of a GPU, by the rows' starts."""
PLACES = ("near", "cached", "streamed")
_LEAST_GAIN = 1.15
_LEAST_GAIN_ONE = 1.25  # of one row, whose times memory makes vary more
_LEAST_GAIN_GPU = 1.4  # in bytes: the decoding takes its share
_MOST_BITMAP = (
    8  # rows of input that bits are multiplied with. (As in csrc/kernels/sparse_bitmap.h.)
)
_SHORT = (torch.bfloat16, torch.float16)
_SHORT_DENSE, _SHORT_DENSE_ONE = 4.0, 0.6  # times float32's, where the processor has no arithmetic
_FEW = 16  # rows up to which strips of four rows are made for


def row_class(rows: int) -> int:
    """The class of a number of rows."""
    for number, most in enumerate(CLASSES):
        if most is None or rows <= most:
            return number
    raise AssertionError


def candidates(number: int, gpu: bool = False) -> tuple[str, ...]:
    """The sparse ways that suit a class of rows."""
    if gpu:
        few = CLASSES[number] is not None and (CLASSES[number] or 0) <= _MOST_BITMAP
        return ("bitmap",) if few else ("unpack",)
    if number == 0:
        return ("mask", "quads")
    most = CLASSES[number]
    return ("quads",) if most is not None and most <= _FEW else ("pairs",)


@cache
def _table() -> Mapping[str, Any]:
    text = resources.files("strop").joinpath("_sparse_costs.json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


@cache
def _narrow() -> bool:
    """Whether this processor has AVX2 but works 128 bits at a time: AMD's family 23, Zen and Zen+."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                found.setdefault(name.strip(), value.strip())
    except OSError:
        return False
    family, model = found.get("cpu family"), found.get("model", "255")
    return found.get("vendor_id") == "AuthenticAMD" and family == "23" and int(model) < 0x30


def own_key() -> str:
    """The entry that measurements here belong to, for the instruction set in force."""
    isa: str = _C.isa()
    return f"{isa}-narrow" if isa == "avx2" and _narrow() else isa


def table_key() -> str:
    """The entry of the table that holds here."""
    key = own_key()
    return key if key in _table() else "avx2"


@cache
def native_short() -> bool:
    """Whether this processor multiplies bfloat16 (AVX-512 BF16, AMX), as torch's dense layers use it."""
    found = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(found)


@cache
def cache_bytes(level: int) -> int:
    """Size of a cache, level 2 or 3; what is usual where the system does not say."""
    try:
        size = os.sysconf(f"SC_LEVEL{level}_CACHE_SIZE")
    except (OSError, ValueError):
        size = 0
    return size if size > 0 else {2: 1 << 20, 3: 32 << 20}[level]


def place(weights: int) -> str:
    """Which cache so many weights, dense, fit: ``near``, the second; ``cached``; or ``streamed``."""
    if 4 * weights <= cache_bytes(2):
        return "near"
    return "cached" if 4 * weights <= cache_bytes(3) else "streamed"


@dataclass(frozen=True)
class Costs:
    """What the ways of a pruned weight take, by the table."""

    shape: tuple[int, int]
    nonzeros: int
    dtype: torch.dtype
    """Of the values."""
    input_dtype: torch.dtype
    gpu: bool = False

    def terms(self, way: str, number: int) -> Sequence[float]:
        """The figures of a way for a class of rows."""
        entry, at = _table()[table_key()], place(self.shape[0] * self.shape[1])
        if way != "dense":
            key = f"{way}-16" if self.dtype in _SHORT else way
            return entry.get(key, entry[way])[at][number]  # type: ignore[no-any-return]
        terms: Sequence[float] = entry[way][at][number]
        if self.input_dtype not in _SHORT:
            return terms
        key = f"dense-{str(self.input_dtype).removeprefix('torch.')}"
        if key in entry and (native_short() or not table_key().startswith("avx512")):
            return entry[key][at][number]  # type: ignore[no-any-return]
        times = _SHORT_DENSE_ONE if number == 0 else _SHORT_DENSE
        return [times * term for term in terms]

    def predicted(self, way: str, number: int) -> float:
        """Seconds that a way takes for the typical rows of a class."""
        call, a, b, c = self.terms(way, number)
        rows, weights = self.shape[0], self.shape[0] * self.shape[1]
        return max(call + a * self.nonzeros + b * weights + c * rows, 1e-9)  # (of nothing, too)

    def ratios(self, number: int) -> dict[str, float]:
        """How many times faster than dense the sparse ways of a class are."""
        if self.gpu:
            return {way: self._ratio_of_bytes(way) for way in candidates(number, gpu=True)}
        dense = self.predicted("dense", number)
        return {way: dense / self.predicted(way, number) for way in candidates(number)}

    def _ratio_of_bytes(self, way: str) -> float:
        """How many times as many bytes dense moves, where each byte is moved once."""
        rows, columns = self.shape
        dense = rows * columns * self.input_dtype.itemsize
        kept = rows * ((columns + 7) // 8) + self.nonzeros * self.dtype.itemsize
        rounds = self.dtype != self.input_dtype and self.input_dtype != torch.float32
        if way == "unpack" or rounds:  # where a value would be rounded, bitmap unpacks to float32
            kept += 2 * rows * columns * (4 if rounds else self.input_dtype.itemsize)
        return dense / max(kept, 1)


def chosen_by_table(costs: Costs, classes: Iterable[int], *, sparse_only: bool) -> tuple[int, ...]:
    """A plan by the table; on a GPU by the bytes that are moved."""
    if costs.gpu:
        return _chosen_by_bytes(costs, classes, sparse_only)
    chosen = {}
    for number in classes:
        ratios = costs.ratios(number)
        best = max(ratios, key=ratios.__getitem__)
        gain = _LEAST_GAIN_ONE if number == 0 else _LEAST_GAIN
        chosen[number] = best if sparse_only or ratios[best] > gain else "dense"
    return completed(chosen)


def _chosen_by_bytes(costs: Costs, classes: Iterable[int], sparse_only: bool) -> tuple[int, ...]:
    chosen = {}
    for number in classes:
        ((way, ratio),) = costs.ratios(number).items()
        chosen[number] = way if sparse_only or ratio > _LEAST_GAIN_GPU else "dense"
    return completed(chosen)


def measured(
    calls: Callable[[str, int], Callable[[], object]],
    classes: Iterable[int],
    *,
    gpu: bool = False,
) -> dict[int, str]:
    """The way of each class of rows that took the least time here."""
    timer = by_events if gpu else None
    chosen = {}
    for number in classes:
        ways = (*candidates(number, gpu), "dense")
        seconds = medians([calls(way, TYPICAL_ROWS[number]) for way in ways], timer=timer)
        chosen[number] = min(zip(seconds, ways, strict=True))[1]
    return chosen


def by_clock(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that the calling thread takes."""
    before = clock()
    call()
    return clock() - before


def by_events(call: Callable[[], object]) -> float:
    """Seconds that the current GPU takes."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def medians(
    calls: Sequence[Callable[[], object]],
    seconds: float = 0.02,
    turns: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    timer: Callable[[Callable[[], object]], float] | None = None,
) -> list[float]:
    """Median times of calls that take turns, so many at least and for so long."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    start = time.perf_counter()
    while len(taken[0]) < turns or time.perf_counter() - start < seconds:
        for call, times in zip(calls, taken, strict=True):
            times.append(by_clock(call, clock) if timer is None else timer(call))
    return [statistics.median(times) for times in taken]


def completed(chosen: Mapping[int, str]) -> tuple[int, ...]:
    """A plan for every class: those that were not asked for go the way of the nearest one."""
    numbers = sorted(chosen)
    nearest = [min(numbers, key=lambda n: (abs(n - i), n)) for i in range(len(CLASSES))]
    return tuple(WAYS.index(chosen[n]) + 1 for n in nearest)


def describe(plan: Sequence[int], costs: Costs, why: str) -> list[tuple[str, str, str]]:
    """(rows, way, why) of every class."""
    lines = []
    first = 1
    for number, choice in enumerate(plan):
        most = CLASSES[number]
        rows = (
            f"{first}" if most == first else f"{first} to {most}" if most else f"{first} and more"
        )
        way = WAYS[choice - 1]
        ways = ", ".join(f"{w} {r:.1f}x dense" for w, r in costs.ratios(number).items())
        reason = f"{why}; predicted {ways}"
        if way not in (*candidates(number, costs.gpu), "dense"):
            reason = "prepared for other rows"
        lines.append((rows, way, reason))
        first = (most or 0) + 1
    return lines
