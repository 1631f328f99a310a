"""Packs weights with a mask, and plans how they run."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop._core.arguments import named_kind
from strop._core.errors import translated, unfit
from strop._core.library import FLOATING
from strop._linear import ops, plans
from strop._linear.dense_weight import DenseWeight
from strop._linear.masked_layouts import one_method
from strop._linear.masked_weight import MaskedWeight
from strop._linear.planning import measured, planned_by_costs, ways
from strop._linear.timed_weight import TimedWeight

_OP = "strop.pack_weight"


class Planning(NamedTuple):
    """What a plan is for, as of :func:`strop.pack_weight`."""

    classes: list[int]
    """Of rows of input."""
    plan: str
    backward: bool


def masked_weight(
    weight: Tensor, mask: Tensor | None, dtype: torch.dtype | None, planning: Planning
) -> MaskedWeight | DenseWeight:
    """The part of :func:`strop.pack_weight` that is of weights without a format."""
    _check_tensors(weight, mask, dtype)
    bits, values = kept_of(weight, mask, dtype)
    full = mask is None and values.numel() == weight.numel() and values.dtype == weight.dtype
    if full and planning.plan != "packed":
        return DenseWeight.planned(values.view(weight.shape), planning.classes, planning.plan)
    wide = torch.float64 in (values.dtype, weight.dtype)
    input_dtype = values.dtype if wide else weight.dtype
    return planned_weight(bits, values, (weight.shape[0], weight.shape[1]), input_dtype, planning)


def kept_of(
    weight: Tensor, mask: Tensor | None, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Bits and values of what a mask keeps; without one, of what is not zero."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            cast = weight if dtype is None else weight.to(dtype)
            return ops.pack_masked(cast.detach(), mask)  # type: ignore[no-any-return]
    except Exception as error:
        raise translated(_OP, error, {"weight": weight, "mask": mask}) from None


def planned_weight(
    bits: Tensor,
    values: Tensor,
    shape: tuple[int, int],
    input_dtype: torch.dtype,
    planning: Planning,
) -> MaskedWeight:
    """A weight of bits and values, with a plan."""
    classes, plan, backward = planning
    if plan == "dense":
        methods = one_method("dense")
    elif values.dtype == torch.float64:
        methods = one_method("mask")
    elif plan == "measure":
        methods = _measured(bits, values, shape, classes, input_dtype)
    else:
        costs = plans.costs_of(bits, values, shape, input_dtype)
        methods = planned_by_costs(costs, classes, packed_only=plan == "packed")
    return MaskedWeight.prepared(
        bits,
        values,
        shape,
        methods=methods,
        plan_source=plan,
        backward=backward and values.dtype != torch.float64,
        input_dtype=input_dtype,
    )


def _check_tensors(weight: object, mask: object, dtype: object) -> None:
    """What the op would not say, or not in time."""
    for name, tensor in (("weight", weight), ("mask", mask)):
        if isinstance(tensor, FakeTensor) or (isinstance(tensor, Tensor) and tensor.is_meta):
            raise ValueError(f"{_OP}: {name} has a shape alone; values to pack are needed")
    known = "float32, bfloat16, float16 or float64"
    if isinstance(weight, Tensor) and weight.dtype not in FLOATING:
        kind = str(weight.dtype).removeprefix("torch.")
        if unfit(weight) is None:
            raise TypeError(f"{_OP}: weight has dtype {kind}; {known} is needed")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{_OP}: dtype is {named_kind(dtype)}; a torch.dtype is needed")
    if dtype not in (None, *FLOATING):
        name = str(dtype).removeprefix("torch.")
        raise TypeError(f"{_OP}: weight has dtype {name}, as dtype says; {known} is needed")


def _measured(
    bits: Tensor,
    values: Tensor,
    shape: tuple[int, int],
    classes: list[int],
    input_dtype: torch.dtype,
) -> tuple[int, ...]:
    """The plan whose methods took the least time here."""
    weight, gpu = TimedWeight.masked(bits, values, shape, input_dtype), bits.is_cuda
    names_of = partial(ways, plans.costs_of(bits, values, shape, input_dtype))
    with torch.cuda.device(bits.device) if gpu else contextlib.nullcontext():
        return measured(weight, names_of, classes, gpu=gpu)
