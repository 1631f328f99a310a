"""Measures cases: every contender in turn, again and again, medians of all turns.

Machines are shared and noisy: a neighbour slows everything for a second. Contenders that take turns
are slowed alike, so that their ratios stand where their times do not. Where all run on one thread, times are
its processor time: a neighbour that takes the core away lengthens a call of 80 ms, but hardly one of 4.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from strop import _C, build_info
from strop._bench.case import Bar, Call, Case
from strop._core.processor import facts

_LEAST_TURNS = 7
_MOST_TURNS = 200
_SECONDS_A_CASE = 2.0
_SECONDS_A_TURN = 2e-4


@dataclass(frozen=True)
class Result:
    """One case's medians in seconds, and the contenders that are missing, with the reason."""

    case: Case
    medians: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    extra_kib: int | None = None

    def figures(self) -> list[tuple[Bar, float]]:
        """Every bar that can be had here, with its figure."""
        have = self.medians.keys()
        found = [(b, b.figure(self.medians)) for b in self.case.bars if have >= set(b.needs)]
        if self.extra_kib is not None and self.case.most_extra_kib is not None:
            extra, most = float(self.extra_kib), float(self.case.most_extra_kib)
            found.append((Bar("KiB extra", lambda _: extra, most, at_least=False), extra))
        return found

    def rate(self) -> float | None:
        """GB/s of strop, read and written together."""
        if not self.case.moved_bytes or "strop" not in self.medians:
            return None
        return self.case.moved_bytes / self.medians["strop"] / 1e9

    def to_dict(self) -> dict[str, object]:
        """What is written to JSON."""
        return {
            "family": self.case.family,
            "name": self.case.name,
            "seconds": self.medians,
            "gb_per_s": self.rate(),
            "images": self.case.images,
            "extra_kib": self.extra_kib,
            "bars": [
                {"label": b.label, "figure": f, "limit": b.limit, "kept": b.kept(f)}
                for b, f in self.figures()
            ],
            "missing": self.missing,
        }


def _processor() -> str:
    """The processor's name; with family and model where it is no more than a brand."""
    found = facts()
    if "model name" not in found:
        return platform.processor() or platform.machine()
    name = found["model name"]
    known = any(letter.isdigit() for letter in name) or "cpu family" not in found
    return name if known else f"{name} {found['cpu family']}-{found.get('model', '0')}"


def machine() -> dict[str, object]:
    """Where a measurement was taken."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "isa": _C.isa(),
        "strop": build_info()["version"],
        "compiler": build_info()["compiler"],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """One thread on one core; more of them wherever they like."""
    before = os.sched_getaffinity(0)
    if threads == 1:
        os.sched_setaffinity(0, {min(before)})
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def extra_kib(call: Call) -> int | None:
    """By how much a call raises the process's memory above what it is; None where Linux hides it."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def peak() -> int:
        return next(int(w.split()[1]) for w in status.read_text().splitlines() if "VmHWM" in w)

    try:
        reset.write_text("5")
        before = peak()
        call()
        return peak() - before
    except (OSError, StopIteration):
        return None


def _turn(call: Call, repeats: int, clock: Callable[[], float] = time.thread_time) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _repeats(call: Call) -> int:
    """Calls to a turn, so that the clock's own cost does not show."""
    once = min(_turn(call, 1) for _ in range(3))
    return max(1, min(2000, int(_SECONDS_A_TURN / max(once, 1e-9))))


def measure(case: Case, seconds: float = _SECONDS_A_CASE) -> Result:
    """One case's result; contenders whose package is not installed are left out."""
    calls: dict[str, Call] = {}
    missing: dict[str, str] = {}
    threads = case.threads or {}
    clock = time.perf_counter if threads else time.thread_time
    for name, make in case.contenders().items():
        try:
            calls[name] = make()
        except ImportError as error:
            missing[name] = str(error)
    turns: dict[str, list[float]] = {name: [] for name in calls}
    repeats = {}
    for name, call in calls.items():
        with pinned(threads.get(name, 1)):
            call()
            repeats[name] = _repeats(call)
    extra = None if case.most_extra_kib is None else extra_kib(calls["strop"])
    start = time.perf_counter()
    for turn in range(_MOST_TURNS):
        for name, call in calls.items():
            with pinned(threads.get(name, 1)):
                if threads:  # its own pool may have been put to sleep, or resized
                    call()
                turns[name].append(_turn(call, repeats[name], clock))
        if turn + 1 >= _LEAST_TURNS and time.perf_counter() - start > seconds:
            break
    medians = {name: statistics.median(t) for name, t in turns.items()}
    return Result(case, medians, missing, extra)


def measure_all(cases: list[Case]) -> list[Result]:
    """Measures cases one by one, with a progress bar on stderr where that is a terminal."""
    threads = torch.get_num_threads()
    results = []
    try:
        with tqdm(cases, disable=None, file=sys.stderr, leave=False) as bar:
            for case in bar:
                bar.set_description(case.name[:48])
                results.append(measure(case))
    finally:
        torch.set_num_threads(threads)
    return results
