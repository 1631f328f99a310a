"""What the kernels read of a pruned weight, made of its bits and values."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop import _C
from strop._core.errors import check_tensors
from strop._core.library import FLOATING
from strop._linear import ops, planning, plans
from strop._prune import ops as prune_ops

_NAME = "strop.PackedWeight"


def on_cpu(
    bits: Tensor, values: Tensor, shape: tuple[int, int], names: Set[str]
) -> dict[str, Tensor]:
    """What these methods need on a CPU."""
    rows, columns = shape
    made = {
        name: ops.layout(bits, values, columns, name)
        for name in (*plans.LAYOUTS, "starts")
        if name in names
    }
    if not names & {"back", "dense"}:
        return made
    dense = ops.unpack_masked(bits, values, columns)
    if "dense" in names:
        made["dense"] = dense
    if "back" in names:
        turned = ops.pack_masked(dense.t(), prune_ops.unpack_mask(bits, columns).t())
        made["back_quads"] = ops.layout(*turned, rows, "quads")
        made["back_pairs"] = ops.layout(*turned, rows, "pairs")
    return made


def on_gpu(
    bits: Tensor, values: Tensor, shape: tuple[int, int], names: Set[str]
) -> dict[str, Tensor]:
    """What these methods need on a GPU, where gradients go by the dense weight."""
    columns = shape[1]
    if columns % 8 and shape[0] and bool((bits[:, -1] >> columns % 8).any()):
        raise ValueError(f"strop.PackedWeight: bits of a row are set beyond its {columns} columns")
    made = {"starts": ops.layout(bits, values, columns, "starts")}
    if "dense" in names:
        made["dense"] = ops.unpack_by_starts(bits, values, made["starts"], columns)
    return made


def fits(methods: Sequence[int], device: torch.device) -> bool:
    """Whether a plan is of this kind of device."""
    of_cpu = ("mask", *plans.LAYOUTS, *plans.BY_AVX2, "prepacked")
    other = of_cpu if device.type == "cuda" else plans.BY_STARTS
    if device.type not in ("cpu", "cuda"):
        return True
    return not {plans.METHOD_OF[number] for number in methods} & set(other)


def planned(costs: plans.Costs, plan_source: str) -> tuple[tuple[int, ...], str]:
    """A plan for every number of rows, and its reason: no longer that it was measured."""
    if plan_source == "dense":
        return one_method("dense"), plan_source
    plan_source = "auto" if plan_source == "measure" else plan_source
    if costs.dtype == torch.float64:
        return one_method("mask"), plan_source
    classes = range(len(plans.CLASSES))
    return planning.planned_by_costs(
        costs, classes, packed_only=plan_source == "packed"
    ), plan_source


def one_method(method: str) -> tuple[int, ...]:
    """A plan with one method for any number of rows."""
    return (plans.NUMBER_OF[method],) * len(plans.CLASSES)


def check_methods(methods: Sequence[int]) -> None:
    known = {
        number for method, number in plans.NUMBER_OF.items() if plans.FORM_OF[method] != "codes"
    }
    if len(methods) != len(plans.CLASSES) or not set(methods) <= known:
        raise ValueError(
            f"{_NAME}: methods, the plan is {tuple(methods)}; a method of weights that are no codes is "
            "needed for each class of rows"
        )


def check_dtypes(values: torch.dtype, input: torch.dtype, methods: Sequence[int]) -> None:
    wide = torch.float64
    if input not in FLOATING or (values == wide) != (input == wide):
        raise TypeError(f"strop.PackedWeight: input_dtype is {input}, beside values of {values}")
    names = {plans.METHOD_OF[number] for number in methods}
    if values == wide and not names <= {"mask", "dense", "prepacked"}:
        raise TypeError("strop.PackedWeight: values of float64 have the method mask alone")


def array_of(
    name: str, tensor: Tensor, dtypes: Sequence[torch.dtype] = (torch.uint8,)
) -> np.ndarray[Any, Any]:
    """A tensor as its checks take it."""
    check_tensors(_NAME, **{name: tensor})
    if isinstance(tensor, FakeTensor) or tensor.device.type != "cpu":
        raise ValueError(f"{_NAME}: {name} is no tensor with data on cpu, where bits is")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{_NAME}: {name} has dtype {tensor.dtype}; {known} is needed")
    if dtypes == (torch.uint8,) and name != "bits" and tensor.dim() != 1:
        raise ValueError(f"{_NAME}: {name} has shape {list(tensor.shape)}; one dimension is needed")
    short = tensor.dtype == torch.bfloat16  # which numpy lacks, and whose numbers are not looked at
    plain = tensor.detach().resolve_neg()
    array: np.ndarray[Any, Any] = (plain.view(torch.float16) if short else plain).numpy()
    return array


def check_layout(name: str, layout: Tensor, shape: tuple[int, int]) -> None:
    """Raises where a layout is not one of such a weight."""
    array = array_of(name, layout)
    try:
        _C.check_layout(array, *shape)
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix(f"{_NAME}: ")
        raise type(error)(f"{_NAME}: {name}: {text}") from None
