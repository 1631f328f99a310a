"""Points and boxes that move with what a warped image shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from strop._augment.boxes import InverseWarp, moved_boxes, visible_share
from strop._augment.size import Size, plain_size
from strop._core.arguments import boolean
from strop._core.call_path import DIRECT, call_path, is_symbol
from strop._core.errors import translated, unfit
from strop._core.library import FLOATING
from strop._core.op import composite_op, op


def warp_points(points: Tensor, matrices: Tensor) -> Tensor:
    """Where points of the input images are in the output of the warp by these matrices.

    The matrices take an output pixel to an input pixel, and points go the other way: (x, y) becomes
    ``A^-1 @ ((x, y) - t)``, where ``M = [A | t]``. In float64, whatever the dtype, and rounded once.

    A matrix that has no inverse shows no point anywhere, or shows it along a line: its points become NaN.
    That is no error, since finding it would make a GPU wait. Entries beyond 2**100 or not finite, and a
    determinant below 2**-500, are as none. A point that is not finite becomes NaN as well.

    Args:
        points: [B, N, 2], x and y in index coordinates of the input: the centre of the first pixel is
            (0, 0). float32, bfloat16, float16 or float64, any strides.
        matrices: [B, 2, 3], float32 or float64, as :func:`strop.affine_matrix` gives them; [1, 2, 3] is
            one for all samples. float64 is not rounded here, as it is for images.

    Returns:
        A tensor of points' shape and dtype, in index coordinates of the output; outside of it as well.
        Differentiable by both; a point that becomes NaN has a gradient of 0.

    Raises:
        ValueError: a shape or device that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> turn = strop.affine_matrix(90, (0, 0), 1, 0, height=11, width=11)
        >>> strop.warp_points(torch.tensor([[[5., 5.], [10., 5.], [10., 0.]]]), turn)
        tensor([[[ 5.,  5.],
                 [ 5., 10.],
                 [10., 10.]]])

    """
    if is_symbol(points):
        return cast(Tensor, _points_op(points, matrices))
    _check("strop.warp_points", "points", points, 2, matrices)
    try:
        if _short(points, matrices):
            return cast(Tensor, _short_points_op(points, matrices))
        return _warp_points(points, matrices)
    except Exception as error:
        given = {"points": points, "matrices": matrices}
        raise translated("strop.warp_points", error, given) from None


@overload
def warp_boxes(
    boxes: Tensor, matrices: Tensor, *, size: Size, return_visible: Literal[False] = False
) -> Tensor: ...
@overload
def warp_boxes(
    boxes: Tensor, matrices: Tensor, *, size: Size, return_visible: Literal[True]
) -> tuple[Tensor, Tensor]: ...
def warp_boxes(
    boxes: Tensor, matrices: Tensor, *, size: Size, return_visible: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """The boxes around what boxes of the input images hold, in the output of the warp by these matrices.

    A box is (left, top, right, bottom) at the edges of pixels, right and bottom exclusive: the whole image
    is (0, 0, width, height), and an edge e is at ``e - 0.5`` in index coordinates. Its four corners move as
    :func:`warp_points` says, the shape between them is clipped to the output, and the result is the
    smallest upright box around what is left. In float64, whatever the dtype, and rounded once. An infinite
    side is one that is far away.

    What has no area is empty: right is not beyond left, or bottom not beyond top. A box that leaves the image
    becomes empty, on the edge or the corner that it left by. A box that was empty, or has a NaN, becomes
    (0, 0, 0, 0), and so does every box under a matrix that has no inverse (as of :func:`warp_points`).

    Args:
        boxes: [B, N, 4], float32, bfloat16, float16 or float64, any strides.
        matrices: as of :func:`warp_points`.
        size: (rows, columns) of the output, an int for a square.
        return_visible: whether the visible shares are returned as well.

    Returns:
        A tensor of boxes' shape and dtype. With return_visible a pair of it and a tensor of boxes' dtype,
        [B, N]: the share of each moved box's area that is in the output, 1 where all of it is, 0 where
        nothing is or the box is empty. Both differentiable by boxes and matrices; what is empty, and what
        no box or matrix decides, has a gradient of 0.

    Raises:
        ValueError: a shape, value or device that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> right = strop.affine_matrix(0, (6, 0), 1, 0, height=8, width=10)
        >>> boxes = torch.tensor([[[1., 2., 7., 4.], [5., 2., 7., 4.]]])
        >>> strop.warp_boxes(boxes, right, size=(8, 10), return_visible=True)
        (tensor([[[ 7.,  2., 10.,  4.],
                 [10.,  2., 10.,  4.]]]), tensor([[0.5000, 0.0000]]))

    """
    op = "strop.warp_boxes"
    symbol = is_symbol(boxes)
    if not symbol:
        _check(op, "boxes", boxes, 4, matrices)
    return_visible = boolean(op, "return_visible", return_visible)
    sides = plain_size(op, size)
    if sides is None:
        raise TypeError(f"{op}: size is None; an int or a pair (rows, columns) is needed")
    if len(sides) != 2 or sides[0] < 0 or sides[1] < 0:
        given = tuple(sides)
        raise ValueError(f"{op}: size is {given}; (height, width), each 0 or more, is needed")
    one: Callable[..., Any]
    of_both: Callable[..., Any]
    if symbol:
        one, of_both = _boxes_op, _visible_op
    elif _short(boxes, matrices):
        one, of_both = _short_boxes_op, _short_visible_op
    else:
        one, of_both = _warp_boxes, _warp_boxes_visible
    try:
        made: Tensor | tuple[Tensor, Tensor]
        made = (of_both if return_visible else one)(boxes, matrices, *sides)
    except Exception as error:
        raise translated(op, error, {"boxes": boxes, "matrices": matrices}) from None
    return made


def _check(op: str, name: str, tensor: object, columns: int, matrices: object) -> None:
    for which, given in ((name, tensor), ("matrices", matrices)):
        if (problem := unfit(given)) is not None:
            raise TypeError(f"{op}: {which} {problem}")
    tensor, matrices = cast(Tensor, tensor), cast(Tensor, matrices)
    if tensor.dtype not in FLOATING:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(
            f"{op}: {name} has dtype {dtype}; float32, bfloat16, float16 or float64 is needed"
        )
    if matrices.dtype is not torch.float32 and matrices.dtype is not torch.float64:
        dtype = str(matrices.dtype).removeprefix("torch.")
        raise TypeError(f"{op}: matrices has dtype {dtype}; float32 or float64 is needed")
    if tensor.dim() != 3 or tensor.shape[2] != columns:
        raise ValueError(
            f"{op}: {name} has shape {list(tensor.shape)}; [B, N, {columns}] is needed"
        )
    if matrices.dim() != 3 or matrices.shape[1:] != (2, 3):
        raise ValueError(f"{op}: matrices has shape {list(matrices.shape)}; [B, 2, 3] is needed")
    if tensor.shape[0] != matrices.shape[0] and matrices.shape[0] != 1:
        raise ValueError(
            f"{op}: there are {matrices.shape[0]} matrices for {name} of {tensor.shape[0]} samples; "
            "one for each, or one, is needed"
        )
    if tensor.device != matrices.device:
        raise ValueError(
            f"{op}: matrices is on {matrices.device} and {name} on {tensor.device}; one device is needed"
        )


def _short(tensor: Tensor, matrices: Tensor) -> bool:
    """Whether one kernel does it, with the same bits: for 64 times 4 boxes in 9 us, not in 80."""
    return (
        tensor.device.type == "cpu"
        and tensor.itemsize >= 4
        and call_path(tensor, matrices) == DIRECT
    )


def _warp_points(points: Tensor, matrices: Tensor) -> Tensor:
    warp = InverseWarp.of(matrices)
    given = points.double()
    known = (given.isfinite().all(-1) & warp.known.unsqueeze(-1)).unsqueeze(-1)
    # What becomes NaN has a gradient of 0: to a batch's matrices a NaN that nobody reads would spread.
    x, y = torch.where(known, given, 0.0).unbind(-1)
    moved = warp.moved(x, y, -1)
    return torch.where(known, moved, torch.nan).to(points.dtype)


def _warp_boxes(boxes: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    return moved_boxes(boxes, matrices, height, width).boxes.to(boxes.dtype)


def _warp_boxes_visible(
    boxes: Tensor, matrices: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    moved = moved_boxes(boxes, matrices, height, width)
    return moved.boxes.to(boxes.dtype), visible_share(moved).to(boxes.dtype)


def _checked(name: str, columns: int, composite: Callable[..., Any]) -> Callable[..., Any]:
    """A composite as an op, which nobody may have checked before."""

    def checked(tensor: Tensor, matrices: Tensor, *size: int) -> Any:
        _check(f"strop.warp_{name}", name, tensor, columns, matrices)
        return composite(tensor, matrices, *size)

    return checked


_BOXES = "(Tensor boxes, Tensor matrices, SymInt height, SymInt width)"
_points_op = composite_op(
    "warp_points(Tensor points, Tensor matrices) -> Tensor", _checked("points", 2, _warp_points)
)
_boxes_op = composite_op(f"warp_boxes{_BOXES} -> Tensor", _checked("boxes", 4, _warp_boxes))
_visible_op = composite_op(
    f"warp_boxes.visible{_BOXES} -> (Tensor, Tensor)", _checked("boxes", 4, _warp_boxes_visible)
)


def _fake_points(points: Tensor, matrices: Tensor) -> Tensor:
    _check("strop.warp_points", "points", points, 2, matrices)
    return points.new_empty(points.shape)


def _fake_boxes(boxes: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    _check("strop.warp_boxes", "boxes", boxes, 4, matrices)
    return boxes.new_empty(boxes.shape)


def _fake_visible(boxes: Tensor, matrices: Tensor, *size: int) -> tuple[Tensor, Tensor]:
    _check("strop.warp_boxes", "boxes", boxes, 4, matrices)
    return boxes.new_empty(boxes.shape), boxes.new_empty(boxes.shape[:2])


# Of short calls that nobody differentiates.
_short_points_op = op("_warp_points", fake=_fake_points)
_short_boxes_op = op("_warp_boxes", fake=_fake_boxes)
_short_visible_op = op("_warp_boxes_visible", fake=_fake_visible)
