"""Which method a pruned layer runs for how many rows of input.

A packed method has to be predicted faster than dense to be chosen, by more where only the shipped table
tells, and for one row, whose times memory makes vary. Of methods that are nearly as fast those are chosen that
read the same form of the weight: each form takes memory.

A GPU needs no table. Few rows of input wait for memory alone, so that a method's time goes by the bytes
that it moves: ``bitmap`` reads bits and values, and is chosen where dense is 1.4 times as many bytes.
More rows are ``dense``, or ``unpack``: the dense weight made anew in each call, for what it saves in
memory. Codes beside a mask are read as they are, by ``codes``, where dense is 1.4 times as many bytes as bits, codes and
scales; no dense weight is kept beside them, so that more rows are ``unpack``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import cast

import torch

from strop._linear import machine_costs
from strop._linear.dense_ways import can_prepack
from strop._linear.plans import (
    CLASSES,
    FORM_OF,
    METHOD_OF,
    NUMBER_OF,
    TYPICAL_ROWS,
    Costs,
    by_events,
    candidates_of_codes,
    medians,
    place,
    row_labels,
    takes_few_rows,
)
from strop._linear.timed_weight import TimedWeight

_DENSE = ("dense", "prepacked")
_LEAST_GAIN = 1.15
_LEAST_GAIN_ONE = 1.25  # of one row
_LEAST_GAIN_HERE = 1.08  # where this machine's costs were measured
_LEAST_GAIN_MEASURED = 1.05
_MOST_LOSS = 1.1  # of time, for one form of the weight less to keep
_MOST_LOSS_OF_DENSE = 1.02  # where dense is the fastest
_FREE = FORM_OF["mask"]
_LEAST_GAIN_GPU = 1.4  # in bytes: the decoding takes its share
_MOST_BY_FMAS = 8  # rows of float32: more take as many instructions as dense takes time


def predicted(costs: Costs, method: str, number: int) -> float:
    """Seconds that a method takes here for the typical rows of a class."""
    weights = costs.shape[0] * costs.shape[1]
    factor = machine_costs.factor(
        costs.key(method), place(weights), number, 1 - costs.nonzeros / max(weights, 1)
    )
    return factor * costs.by_table(method, number)


def ratios(costs: Costs, number: int) -> dict[str, float]:
    """How many times faster than dense the packed methods of a class are."""
    if costs.gpu:
        return {method: _ratio_on_gpu(costs, method, number) for method in costs.candidates(number)}
    dense = predicted(costs, dense_way(costs, number), number)
    return {method: dense / predicted(costs, method, number) for method in costs.candidates(number)}


def dense_way(costs: Costs, number: int) -> str:
    """The faster of torch's dense ways for a class of rows."""
    if costs.gpu or not can_prepack(costs.input_dtype):
        return "dense"
    plain, ordered = (predicted(costs, way, number) for way in ("dense", "prepacked"))
    return "prepacked" if ordered * _LEAST_GAIN_HERE < plain else "dense"


def _ratio_on_gpu(costs: Costs, method: str, number: int) -> float:
    """How many times faster than dense a method is, by the bytes that are moved."""
    ratio = _ratio_of_bytes(costs, method)
    many = (CLASSES[number] or sys.maxsize) > _MOST_BY_FMAS
    if method == "bitmap" and many and costs.input_dtype == torch.float32:
        return min(ratio, 1.0)
    return ratio


def _ratio_of_bytes(costs: Costs, method: str) -> float:
    """How many times as many bytes dense moves, where each byte is moved once."""
    rows, columns = costs.shape
    dense = rows * columns * costs.input_dtype.itemsize
    coded = costs.code_bytes is not None
    values = costs.nonzeros * costs.dtype.itemsize
    kept = rows * ((columns + 7) // 8) + (values if costs.code_bytes is None else costs.code_bytes)
    rounds = costs.dtype != costs.input_dtype and costs.input_dtype != torch.float32 and not coded
    if method == "unpack" or rounds:  # where a value would be rounded, bitmap unpacks to float32
        kept += 2 * rows * columns * (4 if rounds else costs.input_dtype.itemsize)
    return dense / max(kept, 1)


def planned_by_costs(costs: Costs, classes: Iterable[int], *, packed_only: bool) -> tuple[int, ...]:
    """A plan by costs; on a GPU by the bytes that are moved."""
    if costs.gpu:
        return _chosen_by_bytes(costs, classes, packed_only)
    methods, taken = {}, {}
    for number in classes:
        found, dense = ratios(costs, number), dense_way(costs, number)
        best = max(found, key=found.__getitem__)
        worth = (
            found[best] > _least_gain(number) and costs.nonzeros < costs.shape[0] * costs.shape[1]
        )
        methods[number] = best if packed_only or worth else dense
        taken[number] = {method: 1 / ratio for method, ratio in found.items()}
        if not packed_only:
            taken[number][dense] = 1.0
    return completed(_in_fewest_forms(methods, taken))


def _least_gain(number: int) -> float:
    if not machine_costs.is_off():
        return _LEAST_GAIN_HERE if number else _LEAST_GAIN
    return _LEAST_GAIN if number else _LEAST_GAIN_ONE


def _chosen_by_bytes(costs: Costs, classes: Iterable[int], packed_only: bool) -> tuple[int, ...]:
    methods = {}
    for number in classes:
        ((method, ratio),) = ratios(costs, number).items()
        methods[number] = method if packed_only or ratio > _LEAST_GAIN_GPU else "dense"
    return completed(methods)


def planned_kept_codes(
    costs: Costs, classes: Iterable[int], *, packed_only: bool
) -> tuple[int, ...] | None:
    """A plan of codes beside a mask on a GPU; None where they save too few bytes for every class."""
    few = [number for number in classes if takes_few_rows(number)]
    worth = any(ratios(costs, number)["codes"] > _LEAST_GAIN_GPU for number in few)
    if not (packed_only or worth):
        return None
    return completed({number: costs.candidates(number)[0] for number in range(len(CLASSES))})


def planned_codes(
    shape: tuple[int, int], dtype: torch.dtype, classes: Iterable[int]
) -> tuple[int, ...]:
    """A plan of exact codes on a CPU by this machine's costs."""
    methods = {}
    for number in classes:
        taken = {
            name: machine_costs.factor_of_codes(name, place(shape[0] * shape[1]), number, dtype)
            for name in candidates_of_codes(number, dtype)
        }
        methods[number] = _first_unless(taken, _LEAST_GAIN_HERE)
    return completed(methods)


def _first_unless(taken: Mapping[str, float], gain: float) -> str:
    """The first method, unless another is so many times as fast: then the fastest."""
    first, *_ = taken
    return min(taken, key=lambda method: taken[method] * (1 if method == first else gain))


def codes_are_faster(costs: Costs, classes: Iterable[int]) -> bool:
    """Whether exact codes with zeros in them are the fastest for all of these rows, by this machine's costs."""
    where = place(costs.shape[0] * costs.shape[1])
    for number in classes:
        codes = machine_costs.codes_over_dense(where, number, costs.input_dtype)
        best = max(*ratios(costs, number).values(), 1.0)
        if codes is None or codes * best * _LEAST_GAIN_HERE > 1:
            return False
    return True


def measured(
    weight: TimedWeight,
    names_of: Callable[[int], Sequence[str]],
    classes: Iterable[int],
    *,
    gpu: bool = False,
) -> tuple[int, ...]:
    """A plan by trying: for each class of rows the first of the methods unless another gains."""
    methods, all_taken = {}, {}
    for number in classes:
        names = names_of(number)
        if len(names) == 1:
            methods[number], all_taken[number] = names[0], {names[0]: 1.0}
            continue
        # (the least: what is decided for good should not hang on who else was at work)
        runs = [weight.call(method, TYPICAL_ROWS[number]) for method in names]
        times = medians(runs, of=min, timer=by_events if gpu else None)
        all_taken[number] = dict(zip(names, times, strict=True))
        methods[number] = _first_unless(all_taken[number], _LEAST_GAIN_MEASURED)
    return completed(_in_fewest_forms(methods, all_taken))


def _in_fewest_forms(
    methods: Mapping[int, str], taken: Mapping[int, Mapping[str, float]]
) -> Mapping[int, str]:
    """These methods, or others that read fewer forms of the weight and take hardly longer.

    Each form is kept in memory, but for that of the methods that read bits and values as they are.
    """
    forms = sorted({FORM_OF[method] for method in methods.values()} - {_FREE})
    for count in range(len(forms)):
        for kept in combinations(forms, count):
            others = {n: _fastest_in((*kept, _FREE), methods[n], taken[n]) for n in methods}
            if None not in others.values():
                return cast("Mapping[int, str]", others)
    return methods


def _fastest_in(forms: Sequence[str], best: str, taken: Mapping[str, float]) -> str | None:
    """The fastest method that reads one of these forms; None where it loses too much."""
    others = {method: time for method, time in taken.items() if FORM_OF[method] in forms}
    if best in others:
        return best
    most = taken[best] * (_MOST_LOSS_OF_DENSE if best in _DENSE else _MOST_LOSS)
    return min((m for m, t in others.items() if t <= most), key=others.__getitem__, default=None)


def ways(costs: Costs, number: int) -> tuple[str, ...]:
    """The methods of a pruned weight for a class of rows, torch's dense ones first."""
    return (*dense_ways_of(costs.input_dtype, gpu=costs.gpu), *costs.candidates(number))


def dense_ways_of(dtype: torch.dtype, *, gpu: bool = False) -> tuple[str, ...]:
    """Torch's dense ways for input of a dtype."""
    return _DENSE if not gpu and can_prepack(dtype) else _DENSE[:1]


def completed(methods: Mapping[int, str]) -> tuple[int, ...]:
    """A plan for every class: those that were not asked for take that of the nearest one."""
    numbers = sorted(methods)
    nearest = [min(numbers, key=lambda n: (abs(n - i), n)) for i in range(len(CLASSES))]
    return tuple(NUMBER_OF[methods[n]] for n in nearest)


def describe(plan: Sequence[int], costs: Costs, why: str) -> list[tuple[str, str, str]]:
    """(rows, method, why) of every class."""
    lines = []
    for number, (rows, choice) in enumerate(zip(row_labels(), plan, strict=True)):
        method = METHOD_OF[choice]
        names = ", ".join(f"{w} {r:.1f}x dense" for w, r in ratios(costs, number).items())
        reason = f"{why}; predicted {names}"
        if method not in (*costs.candidates(number), *_DENSE):
            reason = "prepared for other rows"
        lines.append((rows, method, reason))
    return lines
