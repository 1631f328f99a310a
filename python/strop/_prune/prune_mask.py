"""Pruning: which weights stay, and masks of a bit an element."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from strop._core.arguments import integer, number
from strop._core.errors import translated
from strop._prune import ops

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
