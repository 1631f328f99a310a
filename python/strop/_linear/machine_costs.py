"""The costs of the machine at hand: how far its times are from the shipped table's.

Note [Machine costs]
The table of costs was fitted on one machine an instruction set. Here every method is timed, for each class of
rows, on a weight that fits the second-level cache, one that fits the last level and one that fits none, at two
sparsities. What a method takes over what the table says, the geometric mean of both, is its factor: from
then on the table is multiplied by it. What is not timed has the factor of the same class in the place before,
or in the first place of the class before.

It is done at the first need, on one thread, once for values of 32 bits and once for values of 16, and kept in
the user's cache folder by processor, instruction set, strop and torch. A process that finds another at it
waits, and reads what that one found. Where nothing can be written the factors stay in memory.
``STROP_TUNE=off`` leaves the table as it is; a path is the file to keep them in.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from strop._core.library import build_info
from strop._linear import dense_ways, ops, plans

Factors = Mapping[str, Mapping[str, Sequence[float]]]
"""By method and place, one for each class of rows."""
GROUPS = {"32 bits": torch.float32, "16 bits": torch.bfloat16}
"""What is measured at a time, and the dtype of its values and input."""
_SECONDS = 1.2  # of a group, about
_SPARSITIES = (0.5, 0.9)
_LAST_CLASS = {"near": 6, "cached": 5, "streamed": 2}
"""The last class of rows that is timed; beyond, places differ no more."""
_LEAST_BYTES, _MOST_BYTES = 1 << 18, 48 << 20  # of weights that are timed, dense
_known: dict[tuple[str, str], Factors] = {}
_lock = threading.Lock()


def factor(method: str, place: str, number: int) -> float:
    """What this machine takes over what the table says; 1 where nothing was measured."""
    group = "32 bits" if method in plans.METHODS else "16 bits"
    found = factors(group).get(method, {}).get(place)
    return 1.0 if found is None else found[number]


def is_off() -> bool:
    """Whether the shipped table holds as it is."""
    return os.environ.get("STROP_TUNE", "") == "off"


def told() -> str:
    """Which costs hold, in words."""
    if is_off():
        return f"table of {plans.table_key()}"
    return f"costs of this machine, {plans.own_key()}"


def path() -> Path:
    """Where this machine's factors are kept."""
    if given := os.environ.get("STROP_TUNE"):
        return Path(os.path.expanduser(given))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    names = (plans.machine_key(), f"strop {build_info()['version']}", f"torch {torch.__version__}")
    return cache / "strop" / f"costs-{re.sub(r'[^A-Za-z0-9.+]+', '-', ' '.join(names))}.json"


def factors(group: str, *, force: bool = False) -> Factors:
    """The factors of a group of methods: known, kept, or measured now."""
    if is_off():
        return {}
    key = (group, str(path()))
    if force or key not in _known:
        with _lock:
            if force or key not in _known:
                _known[key] = _found(group, force)
    return _known[key]


def _found(group: str, force: bool) -> Factors:
    with _one_writer():
        kept = {} if force else _kept().get(group)
        if not kept:
            kept = measured(group)
            _keep({**_kept(), group: kept})
    return kept


def _kept() -> dict[str, Factors]:
    """What the file has; nothing where it is not as it was written."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        groups: dict[str, Factors] = json.loads(path().read_text())
        return {group: factors for group, factors in groups.items() if _is_whole(factors)}
    return {}


def _is_whole(factors: Factors) -> bool:
    return "dense" in {name.partition("-")[0] for name in factors} and all(
        set(places) == set(plans.PLACES)
        and all(
            len(row) == len(plans.CLASSES) and all(map(_is_ratio, row)) for row in places.values()
        )
        for places in factors.values()
    )


def _is_ratio(ratio: float) -> bool:
    return 0 < ratio < math.inf


def _keep(groups: Mapping[str, Factors]) -> None:
    beside = Path(f"{path()}.{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(groups, indent=1) + "\n")
        try:
            os.replace(beside, path())
        except OSError:
            beside.unlink()


@contextlib.contextmanager
def _one_writer() -> Iterator[None]:
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path().parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(Path(f"{path()}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measured(group: str, seconds: float = _SECONDS) -> Factors:
    """Times every method of a group, and compares it with the table."""
    dtype, before = GROUPS[group], torch.get_num_threads()
    modes = torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.device("cpu")
    until = time.perf_counter() + seconds
    ratios: dict[tuple[str, str, int], list[float]] = {}
    torch.set_num_threads(1)
    try:
        with contextlib.ExitStack() as entered:
            for mode in modes:
                entered.enter_context(mode)
            for place, columns in _columns().items():
                for sparsity in _SPARSITIES:
                    if time.perf_counter() > until:
                        break
                    timed = _Weight(columns, sparsity, dtype)
                    for number in range(_LAST_CLASS[place] + 1):
                        if time.perf_counter() > until:
                            break
                        for method, ratio in timed.ratios(number).items():
                            ratios.setdefault((method, place, number), []).append(ratio)
    finally:
        torch.set_num_threads(before)
    return _filled(ratios)


def _columns() -> dict[str, int]:
    """The sides of square weights that are near, cached and streamed here, as far as there are such."""
    second, last = plans.cache_bytes(2), plans.cache_bytes(3)
    sizes = {"near": second // 2, "cached": min(3 * second, last // 2), "streamed": 3 * last // 2}
    found = {}
    for place, size in sizes.items():
        side = math.isqrt(max(min(size, _MOST_BYTES), _LEAST_BYTES) // 4) // 32 * 32
        if plans.place(side * side) == place:
            found[place] = side
    return found


class _Weight:
    """A random weight, and what multiplies by it."""

    def __init__(self, side: int, sparsity: float, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        kept = torch.rand(side, side, generator=generator) >= sparsity
        self.weight = torch.randn(side, side, generator=generator).to(dtype)
        self.bits, self.values = ops.pack_masked(self.weight, kept)
        self.layouts: dict[str, Tensor] = {}
        self.costs = plans.Costs((side, side), self.values.shape[0], dtype, dtype)

    def ratios(self, number: int) -> dict[str, float]:
        """What the methods of a class take over what the table says."""
        calls = {method: self._call(method, number) for method in plans.candidates(number)}
        calls["dense"] = self._call("dense", number)
        if dense_ways.can_prepack(self.weight.dtype):
            calls["prepacked"] = self._call("prepacked", number)
        times = plans.medians(list(calls.values()), seconds=0.004, turns=3, of=min)
        return {
            self.costs.key(method): taken / self.costs.by_table(method, number)
            for method, taken in zip(calls, times, strict=True)
        }

    def _call(self, method: str, number: int) -> Callable[[], object]:
        side = self.weight.shape[0]
        x = torch.ones(plans.TYPICAL_ROWS[number], side, dtype=self.weight.dtype)
        if method == "dense":
            return lambda: torch.nn.functional.linear(x, self.weight)
        if method == "prepacked" and method not in self.layouts:
            self.layouts[method] = dense_ways.prepacked(self.weight)
        if method == "prepacked":
            ordered = self.layouts[method]
            return lambda: dense_ways.product(x, ordered, None, None)
        if method not in self.layouts:
            self.layouts[method] = ops.layout(self.bits, self.values, side, method)
        layout = self.layouts[method]
        return lambda: ops.by_layout(x, layout, side, None, "")


def _filled(ratios: Mapping[tuple[str, str, int], Sequence[float]]) -> Factors:
    """The means of what was timed; for the rest those of the place, or the class, before."""
    found: dict[str, dict[str, list[float]]] = {}
    for method in dict.fromkeys(method for method, _, _ in ratios):
        before: list[float] | None = None
        for place in plans.PLACES:
            row: list[float] = []
            for number in range(len(plans.CLASSES)):
                last = row[-1] if row else 1.0
                known = last if before is None else before[number]
                timed = ratios.get((method, place, number))
                row.append(math.exp(sum(map(math.log, timed)) / len(timed)) if timed else known)
            found.setdefault(method, {})[place] = [float(f"{ratio:.4g}") for ratio in row]
            before = row
    return found
