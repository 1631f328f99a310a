"""Measures cases on a GPU, against what the same GPU reaches in a copy and in a matrix product.

Times are of CUDA events around a few calls in a row, medians of many such turns; a case works on
several sets of buffers in turn, together larger than the L2 cache, so that nothing is found there.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from strop._bench.case import Call
from strop._bench.measure import machine

_TURNS = 30
_CALLS_A_TURN = 12
_LEAST_BUFFER_BYTES = 1 << 29
_MOST_SETS = 8

Make = Callable[[], Call]
Timer = Callable[[Callable[[], None]], float]


@dataclass(frozen=True)
class GpuCase:
    """One measurement: contenders on the same data.

    Attributes:
        family: quantize, masked, ...
        name: unique within the family.
        contenders: for a device, by name, a function that makes one set of buffers and returns the
            call that works on it; ``strop`` is among them.
        moved_bytes: read and written by a call, each input once, each output once.
        flops: of a call, for its share of the matrix rate; 0 where memory is the floor.
        on_host: whether the time that matters is the calling thread's.

    """

    family: str
    name: str
    contenders: Callable[[torch.device], Mapping[str, Make]]
    moved_bytes: int = 0
    flops: int = 0
    on_host: bool = False


@dataclass(frozen=True)
class Ceilings:
    """What the GPU reaches: bytes a second in a copy, operations a second in a bfloat16 product."""

    copy: float
    matrix: float


@dataclass(frozen=True)
class GpuResult:
    """One case's medians in seconds."""

    case: GpuCase
    medians: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)

    def to_dict(self, ceilings: Ceilings) -> dict[str, object]:
        """What is written to JSON."""
        seconds = self.medians["strop"]
        rate, operations = self.case.moved_bytes / seconds, self.case.flops / seconds
        return {
            "family": self.case.family,
            "name": self.case.name,
            "seconds": self.medians,
            "moved_bytes": self.case.moved_bytes,
            "gb_per_s": rate / 1e9 if rate else None,
            "share_of_copy": rate / ceilings.copy if rate else None,
            "share_of_matrix": operations / ceilings.matrix if operations else None,
            "missing": self.missing,
        }


def by_events(turn: Callable[[], None]) -> float:
    """Seconds that the GPU took."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    turn()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def by_clock(turn: Callable[[], None]) -> float:
    """Seconds that the calling thread took."""
    begin = time.perf_counter()
    turn()
    return time.perf_counter() - begin


def _median(calls: Sequence[Call], timer: Timer, turns: int) -> float:
    """Of one call, the calls taking turns."""
    rounds = max(1, _CALLS_A_TURN // len(calls))

    def turn() -> None:
        for _ in range(rounds):
            for call in calls:
                call()

    turn()
    times = [timer(turn) for _ in range(turns)]
    return statistics.median(times) / (rounds * len(calls))


def measure(
    case: GpuCase, device: torch.device, timer: Timer = by_events, turns: int = _TURNS
) -> GpuResult:
    """One case's result; contenders whose package is not installed are left out."""
    medians, missing = {}, {}
    sets = max(1, min(_MOST_SETS, _LEAST_BUFFER_BYTES // max(case.moved_bytes, 1)))
    if case.on_host:
        sets, timer = 1, by_clock
    for name, make in case.contenders(device).items():
        try:
            calls = [make() for _ in range(sets)]
            medians[name] = _median(calls, timer, turns)
        except (ImportError, torch.OutOfMemoryError) as error:
            missing[name] = str(error).splitlines()[0]
    return GpuResult(case, medians, missing)


def _copies(device: torch.device) -> Mapping[str, Make]:
    def make() -> Call:
        x = torch.randn(1 << 26, device=device)
        out = torch.empty_like(x)
        return lambda: out.copy_(x)

    return {"strop": make}


def _products(device: torch.device) -> Mapping[str, Make]:
    def make() -> Call:
        a, b = (torch.randn(8192, 8192, device=device).bfloat16() for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    return {"strop": make}


def ceilings(device: torch.device, timer: Timer = by_events) -> Ceilings:
    """Measures both."""
    copy = GpuCase("ceilings", "copy", _copies, moved_bytes=1 << 29)
    product = GpuCase("ceilings", "product", _products, flops=2 * 8192**3, moved_bytes=1 << 29)
    # The products first: an idle GPU takes its time to raise its clock.
    matrix = max(measure_rate(product, device, timer) for _ in range(2))
    return Ceilings(measure_rate(copy, device, timer) * copy.moved_bytes, matrix * product.flops)


def measure_rate(case: GpuCase, device: torch.device, timer: Timer) -> float:
    """Calls a second."""
    return 1 / measure(case, device, timer).medians["strop"]


def facts(device: torch.device, found: Ceilings) -> dict[str, object]:
    """Where a measurement was taken."""
    gpu = torch.cuda.get_device_properties(device)
    return machine() | {
        "gpu": gpu.name,
        "multiprocessors": gpu.multi_processor_count,
        "gpu_memory_gib": round(gpu.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "copy_gb_per_s": found.copy / 1e9,
        "bfloat16_product_tflops": found.matrix / 1e12,
    }


def measure_all(cases: Sequence[GpuCase]) -> dict[str, object]:
    """Measures the ceilings and the cases one by one on the current GPU; as JSON has it."""
    device = torch.device("cuda", torch.cuda.current_device())
    found = ceilings(device)
    results = []
    with tqdm(cases, disable=None, file=sys.stderr, leave=False) as bar:
        for case in bar:
            bar.set_description(case.name[:48])
            results.append(measure(case, device).to_dict(found))
    return {"machine": facts(device, found), "results": results}
