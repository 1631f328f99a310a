"""The costs of the machine at hand: how far its times are from the shipped table's.

Note [Machine costs]
The table of costs was fitted on one machine an instruction set. Here every method is timed, for each class of
rows, on a weight that fits the second-level cache, one that fits the last level and one that fits none, at two
sparsities. What a method takes over what the table says is its factor at that sparsity: from then on the table is
multiplied by it, in between by what lies in between. (A dense product has one, the geometric mean.) What is not
timed has the factor of the same class in the place before, or in the first place of the class before.

Exact codes need no table: their kernels take the same for every weight of a size, or nearly. What these take over
torch's dense product is timed, of a format of 8 bits and one of 4, and what another method takes over them.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from strop._core.library import build_info
from strop._linear import dense_ways, ops, plans
from strop._linear.code_tensors import codes_layout
from strop._linear.timed_weight import TimedWeight
from strop._quantize.quantize import quantize

Factors = Mapping[str, Mapping[str, Sequence[float]]]
"""By method and place, one for each class of rows."""
GROUPS = {
    "32 bits": torch.float32,
    "16 bits": torch.bfloat16,
    "codes": torch.float32,
    "codes, 16 bits": torch.bfloat16,
}
"""What is measured at a time, and the dtype of its values, if it has such, and input."""
_SECONDS = {"32 bits": 1.2, "16 bits": 1.1, "codes": 0.3, "codes, 16 bits": 0.3}  # about
_SPARSITIES = (0.5, 0.9)
_SPARSER = " at 90 %"  # behind a method's name: its factors at the second of these
_FORMATS = ("int8", "nf4")
_GROUP = 64  # columns that share a scale in the latter
_BLOCK = (16, 32)  # rows and columns that are kept together
_LAST_CLASS = {"near": 6, "cached": 5, "streamed": 5}
"""The last class of rows that is timed, where there is time."""
_MORE_ROWS = 4  # times as long the next class may take
_LEAST_BYTES, _MOST_BYTES = 1 << 18, 48 << 20  # of weights that are timed, dense
_known: dict[tuple[str, str], Factors] = {}
_lock = threading.Lock()


def factor(method: str, place: str, number: int, sparsity: float = _SPARSITIES[0]) -> float:
    """What this machine takes over what the table says; 1 where nothing was measured."""
    group = factors("32 bits" if method in plans.METHODS else "16 bits")
    here, there = (group.get(name, {}).get(place) for name in (method, method + _SPARSER))
    if here is None:
        return 1.0
    if there is None:
        return here[number]
    first, second = _SPARSITIES
    share = min(max((sparsity - first) / (second - first), 0.0), 1.0)
    return here[number] + share * (there[number] - here[number])


def factor_of_codes(method: str, place: str, number: int, dtype: torch.dtype) -> float:
    """What a method takes over the kernels of exact codes, for input of a dtype."""
    found = None if method == "codes" else _of_codes(method, place, number, dtype)
    return 1.0 if found is None else found


def codes_over_dense(place: str, number: int, dtype: torch.dtype) -> float | None:
    """What the kernels of exact codes take over torch's dense product; None where it was not measured."""
    return _of_codes("codes", place, number, dtype)


def _of_codes(method: str, place: str, number: int, dtype: torch.dtype) -> float | None:
    """What was measured of a method of codes, if it was."""
    if dtype not in GROUPS.values():
        return None
    found = factors("codes" if dtype == torch.float32 else "codes, 16 bits").get(method, {})
    return found[place][number] if place in found else None


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
    # (each group has one of the two)
    return bool({"dense", "unpack"} & {name.partition("-")[0] for name in factors}) and all(
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


def measured(group: str, seconds: float | None = None) -> Factors:
    """Times every method of a group, and compares it with the table, or with the kernels of codes."""
    before = torch.get_num_threads()
    modes = torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.device("cpu")
    until = time.perf_counter() + (_SECONDS[group] if seconds is None else seconds)
    ratios: dict[tuple[str, str, int], list[float]] = {}
    torch.set_num_threads(1)
    try:
        with contextlib.ExitStack() as entered:
            for mode in modes:
                entered.enter_context(mode)
            for place, side in _columns().items():
                for weight in _weights(group, side, until):
                    expected = 0.0
                    for number in range(_LAST_CLASS[place] + 1):
                        begin = time.perf_counter()
                        if begin + expected > until:
                            break
                        for method, ratio in weight.ratios(number).items():
                            ratios.setdefault((method, place, number), []).append(ratio)
                        expected = _MORE_ROWS * (time.perf_counter() - begin)
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


def _is_of_codes(group: str) -> bool:
    return group.startswith("codes")


def _weights(group: str, side: int, until: float) -> Iterator[_Masked | _Codes]:
    """What a group is timed on, each made when it comes, while there is time."""
    dtype = GROUPS[group]
    of_codes = _is_of_codes(group)
    for format, sparsity in zip(_FORMATS, _SPARSITIES, strict=True):
        if time.perf_counter() > until:
            return
        yield _Codes(side, format, dtype) if of_codes else _Masked(side, sparsity, dtype)


def _times(weight: TimedWeight, names: Sequence[str], number: int) -> list[float]:
    calls = [weight.call(name, plans.TYPICAL_ROWS[number]) for name in names]
    return plans.medians(calls, seconds=0.004, turns=3, of=min)


class _Masked:
    """A random weight of a sparsity, and one in blocks; what their methods take over what the table says."""

    def __init__(self, side: int, sparsity: float, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        kept = torch.rand(side, side, generator=generator) >= sparsity
        weight = torch.randn(side, side, generator=generator).to(dtype)
        self.suffix = _SPARSER if sparsity == _SPARSITIES[1] else ""
        self.random = _costs_and_weight(weight, kept)
        self.in_blocks = None
        if dtype == torch.float32:
            rows, columns = _BLOCK
            blocks = torch.rand(side // rows, side // columns, generator=generator) >= sparsity
            kept = blocks.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
            self.in_blocks = _costs_and_weight(weight, kept)

    def ways(self, number: int) -> tuple[str, ...]:
        costs, weight = self.random
        prepacked = ("prepacked",) if dense_ways.can_prepack(weight.dtype) else ()
        return (*costs.candidates(number), "dense", *prepacked)

    def ratios(self, number: int) -> dict[str, float]:
        found = _over_table(*self.random, self.ways(number), number)
        if self.in_blocks is not None:
            found |= _over_table(*self.in_blocks, ("panels",), number)
        dense = ("dense", "prepacked")
        return {
            name + ("" if name.partition("-")[0] in dense else self.suffix): ratio
            for name, ratio in found.items()
        }


def _costs_and_weight(weight: Tensor, kept: Tensor) -> tuple[plans.Costs, TimedWeight]:
    bits, values = ops.pack_masked(weight, kept)
    of = bits, values, (weight.shape[0], weight.shape[1]), weight.dtype
    return plans.costs_of(*of), TimedWeight.masked(*of)


def _over_table(
    costs: plans.Costs, weight: TimedWeight, ways: Sequence[str], number: int
) -> dict[str, float]:
    return {
        costs.key(method): taken / costs.by_table(method, number)
        for method, taken in zip(ways, _times(weight, ways, number), strict=True)
    }


class _Codes:
    """A random weight in a format, and what other methods take over its kernels."""

    def __init__(self, side: int, format: str, dtype: torch.dtype) -> None:
        weight = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
        block_size = (1, -1 if format == "int8" else _GROUP)
        quantized = quantize(weight, format=format, block_size=block_size)
        layout, self.dense = codes_layout(quantized, ""), TimedWeight.dense(weight)
        self.weight = TimedWeight(
            (side, side), dtype, lambda _: cast(Tensor, layout), quantized.dequantize
        )

    def ratios(self, number: int) -> dict[str, float]:
        ways = plans.candidates_of_codes(number, self.weight.dtype)
        rows = plans.TYPICAL_ROWS[number]
        calls = [self.dense.call("dense", rows), *(self.weight.call(way, rows) for way in ways)]
        dense, own, *others = plans.medians(calls, seconds=0.004, turns=3, of=min)
        found = {method: taken / own for method, taken in zip(ways[1:], others, strict=True)}
        return {"codes": own / dense, **found}


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
