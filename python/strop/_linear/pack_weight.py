"""Packs weights for :func:`strop.packed_linear`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.compiler import is_compiling

from strop._core.arguments import boolean, instance, integer, named_kind
from strop._linear import plans
from strop._linear.masked_weight import PLANS
from strop._linear.pack_codes import Format, Numbers, coded_weight, packed_codes
from strop._linear.pack_masked import Planning, masked_weight
from strop._linear.packed_weight import PackedWeight
from strop._quantize.quantized_tensor import QuantizedTensor

_OP = "strop.pack_weight"


def pack_weight(
    weight: Tensor | QuantizedTensor,
    mask: Tensor | None = None,
    *,
    format: Format | None = None,
    block_size: Sequence[int] | None = None,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    symmetric: bool = True,
    dtype: torch.dtype | None = None,
    activations: str | None = None,
    rows: int | Sequence[int] | None = None,
    plan: str = "auto",
    backward: bool = False,
) -> PackedWeight:
    """Packs a weight for :func:`strop.packed_linear`: with a mask, or in codes of at most 8 bits.

    Done once, when the layer is made: what the kernels read is prepared here.

    Args:
        weight: [N, K] as of ``torch.nn.Linear``, float32, bfloat16 or float16, or without a format float64
            for the reference loop on a CPU; any strides. What is packed stays on its device; on a GPU this
            waits for it. Or a :class:`strop.QuantizedTensor`, whose codes and scales are kept as they are.
        mask: bool of the same shape, True keeps; None keeps what is not zero, and in codes all. A weight
            without zeros stays dense, unless ``plan="packed"``. Beside a format the codes of what stays are kept,
            and multiplied with zeros between them, or as values where that is faster; on a GPU as they are.
        format: a number format with codes of at most 8 bits, as :func:`strop.quantize` takes it; None keeps
            values, and is for a QuantizedTensor, which has one.
        block_size: weights that share a scale, as :func:`strop.quantize` takes it; None is a scale a row
            for formats of 8 bits and one for 32 columns below. Recipes have their own.
        scale: of the blocks; None chooses it.
        zero_point: likewise.
        symmetric: of a chosen scale.
        dtype: of the values, without a format; None is the weight's. The plan is for input of the weight's
            dtype, so that values of bfloat16 make a float32 model smaller, and faster where memory is what
            it waits for; input of other dtypes works.
        activations: None multiplies the input with values, in float32. ``int8`` and ``uint8`` quantize each
            row of the input first, symmetric and asymmetric, and multiply integers: faster, and to the bit
            the same everywhere. The format is an integer then. What GELU and ReLU give fits ``uint8`` better.
        rows: of the input, the product of its leading dimensions: the numbers that will be used, so
            that nothing is prepared for others (they work, but not at full speed); None is any.
        plan: how the method is chosen for each number of rows. ``auto``: by this machine's
            costs (:func:`strop.tune`), on a GPU by the bytes that are moved; packed where it is faster
            than dense. ``measure``: by trying. ``packed`` and ``dense``: always so; codes are
            never kept dense, but where the first two find it faster, many rows of exact codes make the dense weight
            anew in each call.
        backward: whether to prepare the input's gradient as well; otherwise it goes through the
            dense weight.

    Returns:
        A :class:`PackedWeight`; no gradient passes to the weight.

    Raises:
        ValueError: for shapes and values that do not fit, unknown names, and options that exclude each other.
        TypeError: for dtypes and types that do not fit.

    Example:
        >>> import strop, torch
        >>> weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        >>> w = strop.pack_weight(weight, weight.abs() > 1.6, plan="packed")
        >>> print(f"{w.sparsity:.2f}", sum(t.nbytes for t in w.state_dict().values()) / weight.nbytes < 0.2)
        0.89 True
        >>> w = strop.pack_weight(weight, format="int8", activations="uint8")
        >>> sum(t.nbytes for t in w.state_dict().values()) / weight.nbytes < 0.28
        True

    """
    if is_compiling():
        raise RuntimeError(f"{_OP}: packing happens once, outside of compiled code")
    check_plan(_OP, plan)
    classes = _checked_rows(rows)
    backward = boolean(_OP, "backward", backward)
    if activations is not None:
        instance(_OP, "activations", activations, str, "a string or None")
        if activations == "":
            raise ValueError(f"{_OP}: activations is ''; None, int8 and uint8 are known")
    planning = Planning(classes, plan, backward)
    symmetric = boolean(_OP, "symmetric", symmetric)
    options = {"block_size": block_size, "scale": scale, "zero_point": zero_point}
    given = {"format": format, **options, "symmetric": None if symmetric else False, "dtype": dtype}
    if isinstance(weight, QuantizedTensor):
        _exclude(given, "weight is quantized already")
        return packed_codes(weight, mask, activations, _without_dense(planning, mask, activations))
    if format is None:
        _exclude({**given, "dtype": None, "activations": activations}, "format is None")
        return masked_weight(weight, mask, dtype, planning)
    numbers = Numbers(format, block_size, scale, zero_point, symmetric)
    _exclude({"dtype": dtype}, "format says what is kept")
    planning = _without_dense(planning, mask, activations)
    return coded_weight(weight, mask, numbers, activations, planning)


def _without_dense(planning: Planning, mask: Tensor | None, activations: str | None) -> Planning:
    if planning.plan == "dense" and (mask is None or activations is not None):
        raise ValueError(f"{_OP}: plan is 'dense', but weights in codes stay packed")
    return planning


def check_plan(op: str, plan: object) -> None:
    """Raises ValueError or TypeError for what names no plan."""
    if not isinstance(plan, str):
        raise TypeError(f"{op}: plan is {named_kind(plan)}; a string is needed")
    if plan not in PLANS:
        raise ValueError(f"{op}: plan is {plan!r}; {', '.join(PLANS)} are known")


def _exclude(options: Mapping[str, object], why: str) -> None:
    for name, option in options.items():
        if option is not None:
            raise ValueError(f"{_OP}: {name} is given, but {why}")


def _checked_rows(rows: int | Sequence[int] | None) -> list[int]:
    if rows is None:
        return list(range(len(plans.CLASSES)))
    try:
        given = [integer(_OP, "rows", n) for n in (rows if isinstance(rows, Sequence) else [rows])]
    except TypeError:
        given = []
    if not given:
        what = repr(rows) if isinstance(rows, str | float | list) else named_kind(rows)
        raise TypeError(f"{_OP}: rows is {what:.60}; an int or several are needed")
    if min(given) < 1:
        raise ValueError(f"{_OP}: rows is {rows!r}; numbers from 1 on are needed")
    return sorted({plans.row_class(n) for n in given})
