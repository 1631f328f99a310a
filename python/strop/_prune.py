"""Pruning: which weights stay, weights shrunk toward zero, masks of a bit an element."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from strop import _prune_gradient as gradients
from strop import _prune_ops as ops
from strop._core.arguments import integer, number
from strop._core.errors import translated
from strop._core.tracing import is_tracing
from strop._quantize_gradient import refused, transformed

Pattern = str | tuple[int, int]


def prune_mask(
    weight: Tensor,
    *,
    threshold: float | None = None,
    sparsity: float | None = None,
    pattern: Pattern = "unstructured",
    per: str = "tensor",
    norm: str = "l1",
) -> Tensor:
    """The weights that stay when the smallest are pruned: True keeps.

    Weights are pruned in the order of their magnitudes, and of equal ones the lower index (in
    row-major order) goes first, so that a sparsity prunes exactly ``round(sparsity * numel)``. NaN
    counts as larger than Inf: no threshold prunes it, and a sparsity prunes it last.

    Args:
        weight: float32, bfloat16, float16 or float64, of any shape and strides.
        threshold: keeps ``|w| > threshold``, compared in float32 (float64 for float64), which has to
            hold it.
        sparsity: the share that is pruned, 0 to 1.
        pattern: what is pruned together:

            - ``"unstructured"``: every weight by itself.
            - ``"n:m"`` such as ``"2:4"``: the n largest of every m neighbours along the last axis stay;
              of a shorter group at a row's end n stay as well. Takes neither threshold nor sparsity.
            - ``(rows, columns)``: whole blocks of the last two axes, in the order of their norm per
              element, blocks at an edge by the elements that they have. A threshold is compared with
              that norm, a sparsity is a share of the blocks.
        per: ``"tensor"``, or ``"row"`` to rank each row of the last axis (of blocks) by itself, with
            ``round(sparsity * columns)`` pruned of each.
        norm: of a block: ``"l1"``, the mean of ``|w|``, or ``"l2"``, the root of the mean of ``w**2``.

    Returns:
        A contiguous bool tensor of weight's shape.

    Raises:
        ValueError: a value or shape that does not fit, or not exactly one of threshold and sparsity.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> w = torch.tensor([[0.1, -0.9, 0.4, 0.3], [-0.2, 0.2, 0.7, -0.2]])
        >>> strop.prune_mask(w, sparsity=0.5)
        tensor([[False,  True,  True,  True],
                [False, False,  True, False]])
        >>> strop.prune_mask(w, pattern="2:4")
        tensor([[False,  True,  True, False],
                [False, False,  True,  True]])
        >>> strop.prune_mask(w, sparsity=0.5, pattern=(1, 2), per="row")
        tensor([[ True,  True, False, False],
                [False, False,  True,  True]])

    """
    op = "strop.prune_mask"
    try:
        options = plain_options(op, pattern, per, norm)
        name, block = options[:2]
        cut = (number(op, "threshold", threshold), number(op, "sparsity", sparsity))
        return cast(Tensor, ops.prune_mask(weight, *cut, name, block, *options[2:]))
    except Exception as error:
        raise translated(op, error, {"weight": weight}) from None


def plain_options(op: str, pattern: Pattern, *names: str) -> tuple[Any, ...]:
    """(pattern, block_size, per, norm), or as many of the last two, as the ops have them."""
    for kind, name in zip(("per", "norm")[-len(names) :], names, strict=True):
        if not isinstance(name, str):
            raise TypeError(f"{op}: {kind} is a {type(name).__name__}; a string is needed")
    if isinstance(pattern, str):
        return pattern, [], *names
    if not isinstance(pattern, tuple | list):
        kind = type(pattern).__name__
        raise TypeError(f"{op}: pattern is a {kind}; a string or a tuple (rows, columns) is needed")
    sizes = [integer(op, "an entry of pattern", size) for size in pattern]
    return "block", sizes, *names


def soft_threshold(weight: Tensor, amount: float | Tensor, *, out: Tensor | None = None) -> Tensor:
    """Shrinks weights toward zero: ``sign(w) * max(|w| - amount, 0)``.

    The proximal operator of ``amount * |w|``: a step of it after each step of an optimizer makes
    weights zero that the loss does not hold. In float32 for 16-bit weights, rounded once. What becomes
    zero is +0, and a weight of zero stays that. NaN stays NaN.

    Args:
        weight: float32, bfloat16, float16 or float64, any strides.
        amount: a number of 0 or more that float32 holds (float64 for float64); or a tensor that
            broadcasts to weight ([N, 1] for an amount per row), of weight's dtype or float32, in which a
            negative amount moves weights away from zero.
        out: of weight's shape and dtype; weight itself, or a tensor apart from it.

    Returns:
        A tensor of weight's shape and dtype; ``out`` if given. The gradient passes to weight where
        ``|w| > amount``, and ``-sign(w)`` times that is summed to an amount's.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: with ``out``, where a tensor requires a gradient.

    Example:
        >>> import strop, torch
        >>> strop.soft_threshold(torch.tensor([0.5, -0.25, -2.0]), 0.25)
        tensor([ 0.2500,  0.0000, -1.7500])

    """
    op = "strop.soft_threshold"
    try:
        value, tensor = _amount(op, weight, amount)
        if out is None:
            if is_tracing(weight) or transformed():
                return cast(Tensor, ops.soft_threshold(weight, value, tensor))
            if gradients.needs_gradient(weight, tensor):
                return gradients.recorded(weight, value, tensor)
            return gradients.below_autograd(weight, value, tensor)
        if gradients.needs_gradient(weight, tensor, out):
            raise refused(op)
        ops.soft_threshold_out(weight, value, tensor, out=out)
        return out
    except Exception as error:
        raise translated(op, error, _tensors(weight, amount) | {"out": out}) from None


def soft_threshold_(weight: Tensor, amount: float | Tensor) -> Tensor:
    """:func:`soft_threshold` in place.

    Args:
        weight: as of :func:`soft_threshold`; is written to.
        amount: as of :func:`soft_threshold`.

    Returns:
        weight.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where a tensor requires a gradient; call it under ``torch.no_grad()``.

    Example:
        >>> import strop, torch
        >>> w = torch.tensor([0.5, -0.25, -2.0])
        >>> strop.soft_threshold_(w, torch.tensor([0.5, 0.5, 0.5]))
        tensor([ 0.0000,  0.0000, -1.5000])

    """
    op = "strop.soft_threshold_"
    try:
        value, tensor = _amount(op, weight, amount)
        if gradients.needs_gradient(weight, tensor):
            raise refused(op)
        ops.soft_threshold_in_place(weight, value, tensor)
        return weight
    except Exception as error:
        raise translated(op, error, _tensors(weight, amount)) from None


def _tensors(weight: object, amount: object) -> dict[str, object]:
    return {"weight": weight, "amount": amount if isinstance(amount, Tensor) else None}


def _amount(op: str, weight: Tensor, amount: object) -> tuple[float | None, Tensor | None]:
    """An amount as the ops have it."""
    if not isinstance(amount, Tensor):
        if amount is None:
            raise TypeError(f"{op}: amount is None; a number or a tensor is needed")
        return number(op, "amount", amount), None
    if isinstance(weight, Tensor) and amount.dtype == weight.dtype and amount.itemsize == 2:
        return None, amount.float()  # that of the arithmetic
    return None, amount


def pack_mask(mask: Tensor) -> Tensor:
    """Packs a mask to a bit an element: bit j of byte i is element ``8 * i + j`` of its row.

    Args:
        mask: bool, or uint8 in which what is not 0 is true, of shape [..., K], any strides.

    Returns:
        uint8 of shape [..., ceil(K / 8)]; bits beyond a row's end are 0.

    Raises:
        ValueError: for a tensor without dimensions.
        TypeError: for another dtype.

    Example:
        >>> import strop, torch
        >>> strop.pack_mask(torch.tensor([True, False, True] + [False] * 5 + [True]))
        tensor([5, 1], dtype=torch.uint8)

    """
    try:
        return cast(Tensor, ops.pack_mask(mask))
    except Exception as error:
        raise translated("strop.pack_mask", error, {"mask": mask}) from None


def unpack_mask(bits: Tensor, K: int) -> Tensor:
    """Restores what :func:`pack_mask` packed.

    Args:
        bits: uint8 of shape [..., ceil(K / 8)], any strides.
        K: elements of a row.

    Returns:
        bool of shape [..., K].

    Raises:
        ValueError: for a K or a shape that does not fit.
        TypeError: for another dtype or type.

    Example:
        >>> import strop, torch
        >>> strop.unpack_mask(torch.tensor([5], dtype=torch.uint8), 3)
        tensor([ True, False,  True])

    """
    op = "strop.unpack_mask"
    K = integer(op, "K", K)
    try:
        return cast(Tensor, ops.unpack_mask(bits, K))
    except Exception as error:
        raise translated(op, error, {"bits": bits}) from None
