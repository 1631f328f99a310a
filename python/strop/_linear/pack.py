"""Packs pruned weights, and plans how they run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.compiler import is_compiling

from strop._core.arguments import boolean, integer, named_kind
from strop._core.errors import translated, unfit
from strop._core.library import FLOATING
from strop._linear import ops, plans
from strop._linear.layouts import one_method
from strop._linear.sparse_weight import PLANS, SparseWeight

_OP = "strop.pack_sparse"


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


def pack_sparse(
    weight: Tensor,
    mask: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    rows: int | Sequence[int] | None = None,
    plan: str = "table",
    backward: bool = False,
) -> SparseWeight:
    """Packs a pruned weight for :func:`strop.sparse_linear`.

    Done once, when the layer is made: what the kernels read is prepared here, for one row of input,
    for 2 to 16, and for more.

    Args:
        weight: [N, K] as of ``torch.nn.Linear``, float32, bfloat16 or float16, or float64 for the
            reference loop on a CPU; any strides. What is packed stays on its device; on a GPU this waits
            for it.
        mask: bool of the same shape, True keeps; None keeps what is not zero.
        dtype: of the values; None is the weight's. The plan is for input of the weight's dtype, so that
            values of bfloat16 make a float32 model smaller, and faster where memory is what it waits
            for; input of other dtypes works.
        rows: of the input, the product of its leading dimensions: the numbers that will be used, so
            that nothing is prepared for others (they work, but not at full speed); None is any.
        plan: how the method is chosen for each number of rows. ``table``: by a cost model of this
            instruction set, on a GPU by the bytes that are moved, deterministic; sparse where it is
            faster than dense. ``measure``: by trying. ``sparse`` and ``dense``: always so.
        backward: whether to prepare the input's gradient as well; otherwise it goes through the
            dense weight.

    Returns:
        A :class:`SparseWeight`; no gradient passes to the weight.

    Raises:
        ValueError: for shapes that do not fit, and unknown plans.
        TypeError: for dtypes that do not fit.

    Example:
        >>> import strop, torch
        >>> weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        >>> w = strop.pack_sparse(weight, weight.abs() > 1.6, plan="sparse")
        >>> print(f"{w.sparsity:.2f}", sum(t.nbytes for t in w.state_dict().values()) / weight.nbytes < 0.2)
        0.89 True

    """
    if is_compiling():
        raise RuntimeError(f"{_OP}: packing happens once, outside of compiled code")
    if not isinstance(plan, str):
        raise TypeError(f"{_OP}: plan is {named_kind(plan)}; a string is needed")
    if plan not in PLANS:
        raise ValueError(f"{_OP}: plan is {plan!r}; {', '.join(PLANS)} are known")
    classes = _checked_rows(rows)
    backward = boolean(_OP, "backward", backward)
    _check_tensors(weight, mask, dtype)
    try:
        with torch.inference_mode(False), torch.no_grad():
            cast = weight if dtype is None else weight.to(dtype)
            bits, values = ops.pack_masked(cast.detach(), mask)
    except Exception as error:
        raise translated(_OP, error, {"weight": weight, "mask": mask}) from None
    shape = (weight.shape[0], weight.shape[1])
    wide = torch.float64 in (values.dtype, weight.dtype)
    input_dtype = values.dtype if wide else weight.dtype
    if plan == "dense":
        methods = one_method("dense")
    elif values.dtype == torch.float64:
        methods = one_method("mask")
    elif plan == "measure":
        methods = _measured(bits, values, shape, classes, input_dtype)
    else:
        gpu = values.is_cuda
        costs = plans.Costs(shape, values.shape[0], values.dtype, input_dtype, gpu)
        methods = plans.planned_by_table(costs, classes, sparse_only=plan == "sparse")
    return SparseWeight.prepared(
        bits,
        values,
        shape,
        methods=methods,
        plan_source=plan,
        backward=backward and values.dtype != torch.float64,
        input_dtype=input_dtype,
    )


def _measured(
    bits: Tensor,
    values: Tensor,
    shape: tuple[int, int],
    classes: list[int],
    input_dtype: torch.dtype,
) -> tuple[int, ...]:
    """The plan whose methods took the least time here."""
    forms: dict[str, Tensor] = {"dense": ops.unpack_masked(bits, values, shape[1]).to(input_dtype)}

    def call(method: str, rows: int) -> Callable[[], object]:
        x = torch.randn(rows, shape[1], device=bits.device).to(input_dtype)
        name = "starts" if method in plans.BY_STARTS else method
        if name not in forms:
            forms[name] = ops.layout(bits, values, shape[1], name)
        prepared = forms[name]
        if method == "dense":
            return lambda: torch.nn.functional.linear(x, prepared)
        if name == "starts":
            return lambda: ops.by_bits(x, bits, values, prepared, None, "")
        return lambda: ops.by_layout(x, prepared, shape[0], None, "")

    with torch.cuda.device(bits.device) if bits.is_cuda else contextlib.nullcontext():
        return plans.completed(plans.measured(call, classes, gpu=bits.is_cuda))
