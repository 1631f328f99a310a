"""Points and boxes that move with what a warped image shows."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import cast

import torch
from torch import Tensor
from torch.compiler import is_compiling

from strop._library import FLOATING, ops
from strop._prune_gradient import needs_gradient
from strop._quantize_gradient import transformed


def warp_points(points: Tensor, matrices: Tensor) -> Tensor:
    """Where points of the input images are in the output of the warp by these matrices.

    The matrices take an output pixel to an input pixel, and points go the other way: (x, y) becomes
    ``A^-1 @ ((x, y) - t)``, where ``M = [A | t]``. In float64, whatever the dtype, and rounded once.

    A matrix that has no inverse shows no point anywhere, or shows it along a line: its points become NaN.
    That is no error, since finding it would make a GPU wait.

    Args:
        points: [B, N, 2], x and y in index coordinates of the input: the centre of the first pixel is
            (0, 0). float32, bfloat16, float16 or float64, any strides.
        matrices: [B, 2, 3], float32 or float64, as :func:`strop.affine_matrix` gives them; [1, 2, 3] is
            one for all samples.

    Returns:
        A tensor of points' shape and dtype, in index coordinates of the output; outside of it as well.
        Differentiable by both.

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
    _check("strop.warp_points", "points", points, 2, matrices)
    if _short(points, matrices):
        return cast(Tensor, ops._warp_points.default(points, matrices))
    return _warp_points(points, matrices)


def warp_boxes(boxes: Tensor, matrices: Tensor, *, size: Sequence[int]) -> Tensor:
    """The boxes around what boxes of the input images hold, in the output of the warp by these matrices.

    A box is (left, top, right, bottom) at the edges of pixels, right and bottom exclusive: the whole image
    is (0, 0, width, height), and an edge e is at ``e - 0.5`` in index coordinates. Its four corners move as
    :func:`warp_points` says, and the result is the smallest upright box around them, clipped to the output.
    In float64, whatever the dtype, and rounded once.

    What has no area is empty: right is not beyond left, or bottom not beyond top. A box that leaves the image
    becomes empty, since clipping puts two of its sides on the edge that it left by. A box that was empty
    becomes (0, 0, 0, 0), and so does every box under a matrix that has no inverse.

    Args:
        boxes: [B, N, 4], float32, bfloat16, float16 or float64, any strides.
        matrices: [B, 2, 3], float32 or float64, as :func:`strop.affine_matrix` gives them; [1, 2, 3] is
            one for all samples.
        size: (height, width) of the output.

    Returns:
        A tensor of boxes' shape and dtype. Differentiable by boxes and matrices.

    Raises:
        ValueError: a shape, value or device that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> right = strop.affine_matrix(0, (6, 0), 1, 0, height=8, width=10)
        >>> strop.warp_boxes(torch.tensor([[[1., 2., 7., 4.], [5., 2., 7., 4.]]]), right, size=(8, 10))
        tensor([[[ 7.,  2., 10.,  4.],
                 [10.,  2., 10.,  4.]]])

    """
    op = "strop.warp_boxes"
    _check(op, "boxes", boxes, 4, matrices)
    if not isinstance(size, tuple | list):
        kind = type(size).__name__
        raise TypeError(f"{op}: size is a {kind}; a tuple (height, width) is needed")
    for entry in size:
        if isinstance(entry, bool) or not isinstance(entry, Integral | torch.SymInt):
            kind = type(entry).__name__
            raise TypeError(f"{op}: an entry of size is a {kind}; an int is needed")
    if len(size) != 2 or size[0] < 0 or size[1] < 0:
        raise ValueError(f"{op}: size is {tuple(size)}; (height, width), each 0 or more, is needed")
    if _short(boxes, matrices):
        return cast(Tensor, ops._warp_boxes.default(boxes, matrices, size[0], size[1]))
    return _warp_boxes(boxes, matrices, size[0], size[1])


def _check(op: str, name: str, tensor: object, columns: int, matrices: object) -> None:
    for which, given in ((name, tensor), ("matrices", matrices)):
        if not isinstance(given, Tensor):
            raise TypeError(f"{op}: {which} is a {type(given).__name__}; a tensor is needed")
        if given.layout is not torch.strided:
            raise TypeError(f"{op}: {which} has layout {given.layout}; torch.strided is needed")
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
        and not is_compiling()
        and not transformed()
        and not needs_gradient(tensor, matrices)
    )


def _warp_points(points: Tensor, matrices: Tensor) -> Tensor:
    a, b, e, c, d, f = matrices.double().reshape(-1, 6, 1).unbind(1)
    x, y = points.unbind(-1)
    x, y = x - e, y - f
    moved = torch.stack((d * x - b * y, a * y - c * x), -1)
    return (moved * _reciprocal(a * d - b * c).unsqueeze(-1)).to(points.dtype)


def _warp_boxes(boxes: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    a, b, e, c, d, f = matrices.double().reshape(-1, 6, 1, 1).unbind(1)
    start, end = boxes.chunk(2, -1)
    some = (end > start).all(-1).unsqueeze(-1).unsqueeze(-1)
    scale = _reciprocal((a * d - b * c).unsqueeze(-1) * some)  # NaN where nothing is left
    x, y = (boxes.double() - 0.5).unflatten(-1, (2, 2)).unbind(-1)  # both ends along each axis
    x, y = x - e, y - f
    left, right = _span(d * x, b * y, scale, width)
    top, bottom = _span(a * y, c * x, scale, height)
    return torch.stack((left, top, right, bottom), -1).nan_to_num(0.0).to(boxes.dtype)


def _reciprocal(number: Tensor) -> Tensor:
    """NaN for zero, so that what follows is NaN throughout, not an infinity that a clip would hide.

    Of a determinant in float64 the products are exact where the matrix was float32, so that exactly the
    matrices without an inverse have none.
    """
    return number / number / number


def _span(plus: Tensor, minus: Tensor, scale: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The clipped range, along one axis, of what the ends of the other two add up to at four corners."""
    corners = (plus.unsqueeze(-1) - minus.unsqueeze(-2)) * scale + 0.5
    least, most = corners.clamp(0, limit).flatten(-2).aminmax(dim=-1)
    return least, most


_definitions = torch.library.Library("strop", "FRAGMENT")
for _schema, _composite in {
    "warp_points(Tensor points, Tensor matrices) -> Tensor": _warp_points,
    "warp_boxes(Tensor boxes, Tensor matrices, SymInt height, SymInt width) -> Tensor": _warp_boxes,
}.items():
    _definitions.define(_schema)
    _definitions.impl(_schema.split("(")[0], _composite, "CompositeImplicitAutograd")


def _fake(tensor: Tensor, matrices: Tensor, *size: int) -> Tensor:
    return tensor.new_empty(tensor.shape)


for _name in ("_warp_points", "_warp_boxes"):
    torch.library.register_fake(f"strop::{_name}", _fake)
    _definitions.impl(_name, torch.library.fallthrough_kernel, "Autograd")
