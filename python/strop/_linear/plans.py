"""The methods of a pruned layer for each class of rows of input, and how long each takes.

Note [Cost table]
The time of a method is taken to be ``call + a * nonzeros + b * weights + c * (rows of the weight)``
seconds, for each class of rows of the input, for weights that (dense) fit the second-level cache,
those that fit the last level, and those that fit none.
``benchmarks/fit_masked_costs.py`` measures and fits the figures; they are kept for each instruction
set; apart for processors whose vector units are half as wide as the set's (``avx2-narrow``), and for
AMD's with AVX-512, where torch's dense layers use AVX2 all the same (``avx512-amd``). A set without an
entry, such as AVX-512 elsewhere, goes by that of avx2: both methods gain alike from wider vectors. (avx2
was measured on a Zen 5 held to it.)
Values of 16 bits have methods of their own (``quads-16``), and so has dense in bfloat16 and float16
(``dense-bfloat16``). Where an entry lacks the first, the float32 figures hold; where it lacks the
second, or was measured on a processor that has other arithmetic for the dtype, dense is taken to be so
many times slower or faster than float32.
Panels take dense's figures: of bfloat16 whatever is kept, of float32 for the share of the weight that they hold.
See Note [Machine costs] in machine_costs.py for what is measured beside it, and planning.py for what is chosen.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop import _C
from strop._core.processor import facts

CLASSES = (1, 4, 8, 16, 32, 128, None)
"""The most rows of each class; the last has no end. (As in csrc/linear/torch/ops.cpp.)"""
TYPICAL_ROWS = (1, 2, 8, 16, 32, 128, 512)
"""What a class is measured at: of 2 to 4 the rows at which dense does best beside the packed one."""
_OF_ANY_VALUES = ("mask", "quads", "pairs")
LAYOUTS = ("quads", "pairs", "panels")
"""The packed methods of a CPU with a layout of their own; the last is of float32 and bfloat16 alone."""
BY_STARTS = ("bitmap", "unpack")
"""Those of a GPU, by bits and values as they are and the rows' starts. (A CPU's is ``mask``.)"""
_AVX2 = "-avx2"
BY_AVX2 = {method + _AVX2: method for method in (*_OF_ANY_VALUES, "codes")}
"""The same by the kernels of AVX2, where the set in force extends it: wider ones may be slower."""
METHODS = (*_OF_ANY_VALUES, "dense", *BY_STARTS, "prepacked", "codes", *BY_AVX2, "panels")
"""What a plan chooses among: ``prepacked`` is dense, in oneDNN's order; ``unpack`` makes the dense weight anew in
each call; ``panels`` has bits and values of bfloat16 as tiles of AMX take them, and of float32 the columns
that 16 rows have."""
FORM_OF = {
    **{m: m for m in METHODS},
    **BY_AVX2,
    **dict.fromkeys((*BY_STARTS, "mask", "mask" + _AVX2), "starts"),
    "prepacked": "dense",
}
"""What each of them needs beside a weight's bits and values."""
_TABLED = {"prepacked": "dense", **BY_AVX2}  # methods whose figures are another's
METHOD_OF = dict(enumerate(METHODS, start=1))
"""The methods by the numbers that a plan has for them. (As in csrc/linear/torch/ops.cpp.)"""
NUMBER_OF = {method: number for number, method in METHOD_OF.items()}
PLACES = ("near", "cached", "streamed")
EXPANDING = ("avx512_vnni", "amx")
"""Instruction sets that put the bytes and words that a mask keeps into place."""
SPREADING = ("avx2", "avx2_vnni", "avx512", *EXPANDING)
"""Those that do so once for several rows of input."""
_UNKNOWN = [1.0, 0.0, 0.0, 0.0]  # terms that the table lacks
_OF_A_ROW_MORE = 0.3  # of what one row of bits takes, on those sets
_MOST_BITMAP = 16  # rows that bits are multiplied with, as in csrc/linear/bitmap.h
_SHORT = (torch.bfloat16, torch.float16)
# Times float32's for one row, which waits for memory, and for more.
_SHORT_DENSE = {"none": (0.6, 4.0), "vectors": (0.5, 0.4), "amx": (0.5, 0.15)}
_WITHOUT_SHORT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
_MEASURED_WITH_VECTORS = {("avx512-amd", "dense-bfloat16")}
_WIDER = ("avx512", "avx512_vnni", "amx")  # sets that extend AVX2 by wider vectors
_FEW = 16  # rows up to which strips of four rows are made for
_MOST_HELD = 1.15  # values that panels of float32 have, over those that are kept
_PANEL_ROWS = 16  # as in csrc/linear/layout.h
_PANELS_OVER_DENSE = 1.15  # their time for a weight, over dense's
_ROUNDS = 8  # rows beyond which a restored weight may be rounded to the input's dtype


def row_class(rows: int) -> int:
    """The class of a number of rows."""
    for number, most in enumerate(CLASSES):
        if most is None or rows <= most:
            return number
    raise AssertionError


def row_labels() -> list[str]:
    """The classes of rows in words."""
    labels, first = [], 1
    for most in CLASSES:
        end = f" to {most}" if most else " and more"
        labels.append(f"{first}" if most == first else f"{first}{end}")
        first = (most or 0) + 1
    return labels


def candidates(
    number: int, gpu: bool = False, dtypes: tuple[torch.dtype, torch.dtype] | None = None
) -> tuple[str, ...]:
    """The packed methods that suit a class of rows, where values and input have certain dtypes."""
    if gpu:
        return ("bitmap",) if takes_few_rows(number) else ("unpack",)
    most = CLASSES[number] or sys.maxsize
    panels = ("panels",) if dtypes == _SHORT[:1] * 2 and _C.isa() in EXPANDING else ()
    if number == 0:
        return (*_by_all_sets("mask", "quads"), *panels)
    if most <= _FEW:
        few = ("mask", "quads") if _C.isa() in SPREADING else ("quads",)
        return (*_by_all_sets(*few), *panels)
    # (vectors of 16 lanes take as many rows under quads, at most 8 % slower: one form less to keep)
    strips = ("quads",) if _C.isa() in _WIDER else ("quads", "pairs")
    return (*_by_all_sets(*strips), *panels)


def takes_few_rows(number: int) -> bool:
    """Whether a GPU has products by bits for a class of rows."""
    return (CLASSES[number] or sys.maxsize) <= _MOST_BITMAP


def candidates_of_codes(number: int, dtype: torch.dtype) -> tuple[str, ...]:
    """The methods of exact codes on a CPU that suit a class of rows; the first unless another gains."""
    most = CLASSES[number] or sys.maxsize
    unpacks = most > _ROUNDS and dtype != torch.float16  # (whose range a weight may exceed)
    return (*_by_all_sets("codes"), "unpack") if unpacks else _by_all_sets("codes")


def _by_all_sets(*methods: str) -> tuple[str, ...]:
    if _C.isa() not in _WIDER:
        return methods
    return (*methods, *(method + _AVX2 for method in methods))


_MANY = 130
_CLASS_OF = [row_class(rows) for rows in range(_MANY)]  # looked up, not searched, in a call


def method_of(methods: Sequence[int], x: Tensor, columns: int) -> int:
    """The number of the method that a plan has for an input of so many columns."""
    rows = x.numel() // columns if columns else _MANY
    return methods[_CLASS_OF[rows] if rows < _MANY else -1]


ISA_OF = {number: "avx2" if method in BY_AVX2 else "" for number, method in METHOD_OF.items()}
"""The instruction sets that methods ask for, by their numbers; none for that in force."""


@cache
def _table() -> Mapping[str, Any]:
    text = resources.files("strop._linear").joinpath("costs.json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


@cache
def _narrow() -> bool:
    """Whether this processor has AVX2 but works 128 bits at a time: AMD's family 23, Zen and Zen+."""
    family, model = facts().get("cpu family"), facts().get("model", "255")
    return _amd() and family == "23" and int(model) < 0x30


def _amd() -> bool:
    return facts().get("vendor_id") == "AuthenticAMD"


_EXTENDED = {
    "avx2_vnni": "avx2",
    "avx512_vnni": "avx512",
    "amx": "avx512",
    "neon_dot": "neon",
    "neon_i8mm": "neon",
}


def own_key() -> str:
    """The entry that measurements here belong to, for the instruction set in force."""
    isa: str = _C.isa()
    isa = _EXTENDED.get(isa, isa)  # (masked products have no kernels of their own there)
    if isa == "avx2" and _narrow():
        return "avx2-narrow"
    return "avx512-amd" if isa == "avx512" and _amd() else isa


def machine_key() -> str:
    """The processor and the instruction set in force, on which a plan holds that was chosen here."""
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    known = [facts()[name] for name in names if name in facts()]
    return " ".join([*known, _C.isa()])


machine_key._dynamo_marked_constant = True  # type: ignore[attr-defined] # (as in packed_weight.py)


def table_key() -> str:
    """The entry of the table that holds here."""
    key = own_key()
    return key if key in _table() else "avx2"


@cache
def arithmetic(dtype: torch.dtype) -> str:
    """What torch's dense layers find here for a dtype of 16 bits: ``amx``, ``vectors`` or ``none``."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_SHORT:
        return "none"
    short = dtype == torch.bfloat16
    if torch.cpu._is_amx_tile_supported() if short else torch.cpu._is_amx_fp16_supported():
        return "amx"
    flag = "avx512_bf16" if short else "avx512_fp16"
    return "vectors" if flag in facts().get("flags", "").split() else "none"


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
    """What the methods of a pruned weight take, by the table."""

    shape: tuple[int, int]
    nonzeros: int
    dtype: torch.dtype
    """Of the values."""
    input_dtype: torch.dtype
    gpu: bool = False
    code_bytes: int | None = None
    """Of what is kept and its scales, where a GPU multiplies with codes beside a mask."""
    held: int | None = None
    """The weights of the columns that panels of 16 rows have; None where that is no method."""

    def terms(self, method: str, number: int) -> Sequence[float]:
        """The figures of a method for a class of rows."""
        entry, at = _table()[table_key()], place(self.shape[0] * self.shape[1])
        if method == "panels" and self.held is not None:  # goes by what it holds
            call, a, b, c = entry["dense"][at][number]
            share = self.held / max(self.shape[0] * self.shape[1], 1)
            return [call, a, _PANELS_OVER_DENSE * share * b, c]
        if method == "panels":
            # Its time goes by all weights; how much less it takes is found on the machine.
            return entry["dense"][at][number]  # type: ignore[no-any-return]
        method = _TABLED.get(method, method)  # (the table knows one dense way)
        if method == "mask" and number and entry[method][at][number] == _UNKNOWN:
            call, of_nonzeros, of_weights, of_rows = self.terms("mask", 0)
            share = 1 + _OF_A_ROW_MORE * (TYPICAL_ROWS[number] - 1)
            return call, share * of_nonzeros, share * of_weights, share * of_rows
        if method != "dense":
            key = f"{method}-16" if self.dtype in _SHORT else method
            return entry.get(key, entry[method])[at][number]  # type: ignore[no-any-return]
        terms: Sequence[float] = entry[method][at][number]
        if self.input_dtype not in _SHORT:
            return terms
        key = f"dense-{str(self.input_dtype).removeprefix('torch.')}"
        has = arithmetic(self.input_dtype)
        measured = "vectors" if (table_key(), key) in _MEASURED_WITH_VECTORS else "none"
        if key in entry and has == measured:
            return entry[key][at][number]  # type: ignore[no-any-return]
        return [_SHORT_DENSE[has][min(number, 1)] * term for term in terms]

    def candidates(self, number: int) -> tuple[str, ...]:
        """The packed methods that suit a class of rows."""
        if self.code_bytes is not None:
            return ("codes",) if takes_few_rows(number) else ("unpack",)
        found = candidates(number, self.gpu, (self.dtype, self.input_dtype))
        in_blocks = self.held is not None and self.held <= _MOST_HELD * self.nonzeros
        return (*found, "panels") if in_blocks else found

    def key(self, method: str) -> str:
        """A method by the name that its figures have."""
        if method not in ("dense", "prepacked"):
            return f"{method}-16" if self.dtype in _SHORT else method
        if self.input_dtype not in _SHORT:
            return method
        return f"{method}-{str(self.input_dtype).removeprefix('torch.')}"

    def by_table(self, method: str, number: int) -> float:
        """The same by the table alone."""
        call, a, b, c = self.terms(method, number)
        rows, weights = self.shape[0], self.shape[0] * self.shape[1]
        return max(call + a * self.nonzeros + b * weights + c * rows, 1e-9)  # (of nothing, too)


def costs_of(
    bits: Tensor, values: Tensor, shape: tuple[int, int], input_dtype: torch.dtype
) -> Costs:
    """What the methods take for bits and values, in which blocks may show."""
    held = _held_in_panels(bits) if values.dtype == torch.float32 else None
    return Costs(shape, values.shape[0], values.dtype, input_dtype, bits.is_cuda, held=held)


def _held_in_panels(bits: Tensor) -> int | None:
    """The weights of the columns that any of a panel's rows has; None of bits without data, or on a GPU."""
    if bits.device.type != "cpu" or isinstance(bits, FakeTensor):
        return None
    if bits.dtype != torch.uint8 or bits.dim() != 2:  # which is refused elsewhere
        return None
    if bits.numel() == 0:
        return 0
    rows: np.ndarray[Any, Any] = bits.detach().numpy()
    panels = np.bitwise_or.reduceat(rows, np.arange(0, len(rows), _PANEL_ROWS), axis=0)
    return _PANEL_ROWS * int(np.unpackbits(panels).sum(dtype=np.int64))


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
    of: Callable[[list[float]], float] = np.median,
    timer: Callable[[Callable[[], object]], float] | None = None,
) -> list[float]:
    """Median times of calls that take turns, so many at least and for so long; or others than these."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    start = time.perf_counter()
    while len(taken[0]) < turns or time.perf_counter() - start < seconds:
        for call, times in zip(calls, taken, strict=True):
            if timer is not None:
                times.append(timer(call))
                continue
            before = clock()
            call()
            times.append(clock() - before)
    return [float(of(times)) for times in taken]
