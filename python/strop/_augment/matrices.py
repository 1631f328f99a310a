"""Matrices that say where each pixel of a warped image comes from, in torchvision's and Keras's terms."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from strop._core.arguments import boolean, integer, number
from strop._core.errors import translated, unfit
from strop._core.library import FLOATING
from strop._core.op import composite_op

Numbers: TypeAlias = "float | Sequence[float] | np.ndarray[Any, Any] | Tensor"
"""A number for all samples, or one for each."""
Pairs: TypeAlias = "Sequence[Any] | np.ndarray[Any, Any] | Tensor"
"""An (x, y) pair for all samples, or one for each."""
LARGEST = torch.finfo(torch.float32).max
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def affine_matrix(
    angle: Numbers,
    translate: Pairs,
    scale: Numbers,
    shear: float | Pairs,
    height: int,
    width: int,
) -> Tensor:
    """The matrices by which torchvision's ``affine`` samples, for a whole batch.

    ``M`` takes an output pixel to the place in the input that it shows, ``M @ (j, i, 1)`` for column j and
    row i. It is the inverse of ``T C R(angle) S(scale) SHy SHx C^-1``: shear, scale and rotate about the
    centre ``((width - 1) / 2, (height - 1) / 2)``, then translate. Here ``SHx = [[1, -tan x], [0, 1]]`` and
    ``SHy = [[1, 0], [-tan y, 1]]``, as in torchvision. Computed in float64 and rounded once.

    Every argument is a number for all samples or one for each; those for each agree in their number B, and
    1 goes with every B. Numbers go to the device of the tensors; a sequence is copied there, so that on a
    GPU only numbers and tensors do without a synchronisation.

    Args:
        angle: degrees, clockwise as one sees it; a number, a sequence of B or a tensor [B].
        translate: pixels (right, down), not rounded to integers: a pair, or [B, 2]. An entry of a pair may
            be a tensor [B].
        scale: above 0, and 2 shows everything twice as large; a number, a sequence of B or a tensor [B].
            In a tensor it is not checked: what is not finite then gives fill. (Of all arguments, numbers
            and arrays have to be finite in float32.)
        shear: degrees along (x, y): as translate; or a number or a tensor [B], which shears along x alone.
            Two numbers in a sequence are a pair, in a tensor [2] they are two samples.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        float32 [B, 2, 3]; B is 1 where every argument is a number. Differentiable by every floating tensor.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> strop.affine_matrix(0, (2, 0), 1, 0, height=5, width=5)
        tensor([[[ 1.,  0., -2.],
                 [ 0.,  1.,  0.]]])
        >>> strop.affine_matrix(torch.tensor([0., 90., 180.]), (0, 0), 1, 0, 5, 5).round()
        tensor([[[ 1.,  0.,  0.],
                 [ 0.,  1.,  0.]],
        <BLANKLINE>
                [[ 0.,  1.,  0.],
                 [-1.,  0.,  4.]],
        <BLANKLINE>
                [[-1.,  0.,  4.],
                 [-0., -1.,  4.]]])

    """
    op = "strop.affine_matrix"
    size = _extent(op, "height", height), _extent(op, "width", width)
    device = _device(op, angle=angle, translate=translate, scale=scale, shear=shear)
    _check_scale(op, scale)
    _check_numbers(op, angle=angle, translate=translate, scale=scale, shear=shear)
    tensors = {
        "angle": _column(op, "angle", angle, device),
        "translate": _pair(op, "translate", translate, device),
        "scale": _column(op, "scale", scale, device),
        "shear": _shear(op, shear, device),
    }
    try:
        return cast(Tensor, cast(Any, _affine_matrix)(*tensors.values(), *size))
    except Exception as error:
        raise translated(op, error, tensors) from None


def keras_matrix(
    theta: Numbers,
    tx: Numbers,
    ty: Numbers,
    shear: Numbers,
    zx: Numbers,
    zy: Numbers,
    height: int,
    width: int,
    *,
    legacy: bool = False,
) -> Tensor:
    """The matrices of Keras's ``ImageDataGenerator``, for a whole batch.

    The parameters are those of its ``apply_affine_transform``, which its ``height_shift_range`` (tx) and
    ``width_shift_range`` (ty) are drawn for: about the centre ``n / 2 - 0.5``, the output's
    ``(row, column)`` is multiplied by ``R(theta) T(tx, ty) Shear Zoom``, with
    ``Shear = [[1, -sin], [0, cos]]``, and is then the place in the input. The result is ``M`` of that, in
    strop's order: ``M @ (j, i, 1)`` is the place for column j and row i. Computed in float64 and rounded
    once.

    Keras itself swaps the two axes at the end, so that tx moves columns and a positive theta turns the other
    way, and does not swap the centre, which is off the image's unless that is square. ``legacy=True`` gives
    what it does, for what was trained with it.

    Every argument is a number for all samples, or a sequence of B or a tensor [B], and 1 goes with every B;
    devices as in :func:`affine_matrix`.

    Args:
        theta: degrees; a positive one turns the image clockwise, with ``legacy`` the other way.
        tx: pixels along the height: a positive one moves the image up; with ``legacy``, to the left.
        ty: pixels along the width: a positive one moves the image to the left; with ``legacy``, up.
        shear: degrees; a positive one lowers the image's right side (with ``legacy``, moves its bottom to
            the right) and stretches its width (with ``legacy``, its height) by 1 / cos.
        zx: zoom along the height (with ``legacy``, along the width). Above 1 the content shrinks.
        zy: zoom along the width (with ``legacy``, along the height).
        height: of the images, in pixels.
        width: of the images, in pixels.
        legacy: as Keras does, rather than as it is documented.

    Returns:
        float32 [B, 2, 3]; B is 1 where every argument is a number. Differentiable by every floating tensor.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop
        >>> strop.keras_matrix(0, 3, 0, 0, 1, 2, height=4, width=8)  # up by 3, half as wide
        tensor([[[ 2.0000,  0.0000, -3.5000],
                 [ 0.0000,  1.0000,  3.0000]]])

    """
    op = "strop.keras_matrix"
    legacy = boolean(op, "legacy", legacy)
    size = _extent(op, "height", height), _extent(op, "width", width)
    given = {"theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy}
    device = _device(op, **given)
    _check_numbers(op, **given)
    tensors = {name: _column(op, name, value, device) for name, value in given.items()}
    try:
        return cast(Tensor, cast(Any, _keras_matrix)(*tensors.values(), *size, legacy))
    except Exception as error:
        raise translated(op, error, tensors) from None


def _affine_matrix(
    angle: Tensor, translate: Tensor, scale: Tensor, shear: Tensor, height: int, width: int
) -> Tensor:
    _check_batch("strop.affine_matrix", angle=angle, translate=translate, scale=scale, shear=shear)
    return _affine(angle, translate, scale, shear, height, width).float()


def _affine(
    angle: Tensor, translate: Tensor, scale: Tensor, shear: Tensor, height: int, width: int
) -> Tensor:
    """In float64."""
    angle = torch.deg2rad(angle.double())
    cos, sin = angle.cos() / scale, angle.sin() / scale
    shear_x, shear_y = torch.deg2rad(shear.double()).tan().unbind(-1)
    both = 1 + shear_x * shear_y  # SHx^-1 SHy^-1 = [[both, shear_x], [shear_y, 1]]
    a, b = both * cos - shear_x * sin, both * sin + shear_x * cos
    c, d = shear_y * cos - sin, shear_y * sin + cos
    right, down = translate.double().unbind(-1)
    return _about((a, b, c, d), ((width - 1) / 2, (height - 1) / 2), (-right, -down), (0.0, 0.0))


def _keras_matrix(
    theta: Tensor,
    tx: Tensor,
    ty: Tensor,
    shear: Tensor,
    zx: Tensor,
    zy: Tensor,
    height: int,
    width: int,
    legacy: bool = False,
) -> Tensor:
    _check_batch("strop.keras_matrix", theta=theta, tx=tx, ty=ty, shear=shear, zx=zx, zy=zy)
    return _keras(theta, tx, ty, shear, zx, zy, height, width, legacy).float()


def _keras(
    theta: Tensor,
    tx: Tensor,
    ty: Tensor,
    shear: Tensor,
    zx: Tensor,
    zy: Tensor,
    height: int,
    width: int,
    legacy: bool,
) -> Tensor:
    """In float64."""
    theta = torch.deg2rad(theta.double())
    sheared = theta + torch.deg2rad(shear.double())  # R(theta) Shear turns the second axis by both
    cos, sin = theta.cos(), theta.sin()
    a, b = cos * zx, sheared.sin() * -zy.double()
    c, d = sin * zx, sheared.cos() * zy
    first, second = cos * tx - sin * ty, sin * tx + cos * ty
    of_height, of_width = height / 2 - 0.5, width / 2 - 0.5
    if legacy:  # Keras's first axis is x, under the centre of the rows
        return _about((a, b, c, d), (of_height, of_width), (0.0, 0.0), (first, second))
    return _about((d, c, b, a), (of_width, of_height), (0.0, 0.0), (second, first))


def _about(
    linear: tuple[Tensor, Tensor, Tensor, Tensor],
    center: tuple[float, float],
    before: tuple[Tensor | float, Tensor | float],
    after: tuple[Tensor | float, Tensor | float],
) -> Tensor:
    """[B, 2, 3] that shifts by ``before``, applies ``linear`` about the centre, shifts by ``after``."""
    a, b, c, d = linear
    x, y = before[0] - center[0], before[1] - center[1]
    e = a * x + b * y + center[0] + after[0]
    f = c * x + d * y + center[1] + after[1]
    entries = torch.broadcast_tensors(a, b, e, c, d, f)
    return torch.stack(entries, -1).reshape(-1, 2, 3) + 0.0  # and no -0


def _check_batch(op: str, **given: Tensor) -> None:
    """Whether the tensors, [B] or (where a pair is needed) [B, 2], agree in B."""
    first, size = "", 1
    _device(op, **given)
    for name, tensor in given.items():
        if (problem := unfit(tensor)) is not None:
            raise TypeError(f"{op}: {name} {problem}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tensor.dtype not in FLOATING and tensor.dtype not in _INTEGERS:
            raise TypeError(
                f"{op}: {name} has dtype {dtype}; a floating or integer dtype is needed"
            )
        shape = (
            "[B, 2]" if name == "translate" or (name == "shear" and "translate" in given) else "[B]"
        )
        if tensor.dim() != len(shape.split(",")) or (tensor.dim() == 2 and tensor.shape[1] != 2):
            raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}; {shape} is needed")
        count = tensor.shape[0]
        if size != 1 and count != 1 and count != size:
            raise ValueError(
                f"{op}: {name} has {count} samples and {first} {size}; one number of samples, or 1, is needed"
            )
        if size == 1:
            first, size = name, count


def _extent(op: str, name: str, value: object) -> int:
    extent = integer(op, name, value)
    if extent < 0:
        raise ValueError(f"{op}: {name} is {value}; it must be 0 or more")
    return extent


def _numbers_in(op: str, name: str, value: object) -> list[float]:
    """The numbers of an argument, of an array its extremes, but for tensors, which may lie on a GPU."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return [cast(float, number(op, name, value))]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return [float(value.min()), float(value.max())] if value.size else []
    if isinstance(value, tuple | list):
        return [found for entry in value for found in _numbers_in(op, name, entry)]
    return []


def _check_numbers(op: str, **given: object) -> None:
    """Whether the result, which is float32, holds what numbers say."""
    for name, value in given.items():
        for found in _numbers_in(op, name, value):
            if not -LARGEST <= found <= LARGEST:
                raise ValueError(f"{op}: {name} is {found}; it must be finite in float32")


def _check_scale(op: str, scale: object) -> None:
    for found in _numbers_in(op, "scale", scale):
        if not found > 0:
            raise ValueError(f"{op}: scale is {scale}; it must be above 0")
        if not 1 / found <= LARGEST:
            raise ValueError(f"{op}: scale is {found}; its inverse must be finite in float32")


def _device(op: str, **given: object) -> torch.device | None:
    """Where the tensors are, or None where there is none."""
    found = None
    for name, value in given.items():
        entries = value if isinstance(value, tuple | list) else (value,)
        for tensor in entries:
            if isinstance(tensor, Tensor):
                if found is not None and tensor.device != found[1]:
                    raise ValueError(
                        f"{op}: {name} is on {tensor.device} and {found[0]} on {found[1]}; "
                        "one device is needed"
                    )
                found = name, tensor.device
    return None if found is None else found[1]


def _column(op: str, name: str, value: object, device: torch.device | None) -> Tensor:
    """Numbers for each sample, [B]."""
    if _is_number(value):
        # A kernel fills it: a copy from the host would wait for the GPU.
        plain = isinstance(value, Real | np.ndarray)
        found = float(cast(float, value)) if plain else cast(float, value)
        return torch.full((1,), found, dtype=torch.float64, device=device)
    tensor = _tensor(op, name, value, device)
    return tensor.reshape(1) if tensor.dim() == 0 else tensor


def _pair(op: str, name: str, value: object, device: torch.device | None) -> Tensor:
    """Pairs for each sample, [B, 2]."""
    if isinstance(value, tuple | list) and all(
        _is_number(v) or isinstance(v, Tensor) for v in value
    ):
        if len(value) != 2:
            raise ValueError(f"{op}: {name} has {len(value)} entries; a pair (x, y) is needed")
        x, y = (_column(op, f"an entry of {name}", entry, device) for entry in value)
        try:
            return torch.stack(torch.broadcast_tensors(x.double(), y.double()), -1)
        except RuntimeError:
            shapes = f"{list(x.shape)} and {list(y.shape)}"
            raise ValueError(
                f"{op}: {name} has entries of shapes {shapes}; [B] is needed"
            ) from None
    tensor = _tensor(op, name, value, device)
    return tensor.reshape(1, 2) if tensor.shape == (2,) else tensor


def _shear(op: str, value: object, device: torch.device | None) -> Tensor:
    array = isinstance(value, Tensor | np.ndarray)
    if isinstance(value, tuple | list) or (array and cast(Tensor, value).ndim > 1):
        return _pair(op, "shear", value, device)
    along_x = _column(op, "shear", value, device)
    return torch.stack((along_x, torch.zeros_like(along_x)), -1)


def _is_number(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iuf"
    symbolic = torch.SymFloat | torch.SymInt
    return isinstance(value, Real | symbolic) and not isinstance(value, bool)


def _tensor(op: str, name: str, value: object, device: torch.device | None) -> Tensor:
    if isinstance(value, Tensor):
        if (problem := unfit(value)) is not None:
            raise TypeError(f"{op}: {name} {problem}")
        return value
    try:
        if isinstance(value, np.ndarray):
            return torch.as_tensor(value, device=device)
        if isinstance(value, tuple | list):
            return torch.tensor(value, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{op}: {name} is {value!r}; numbers are needed") from None
    raise TypeError(f"{op}: {name} is a {type(value).__name__}; numbers or a tensor are needed")


composite_op(
    "affine_matrix(Tensor angle, Tensor translate, Tensor scale, Tensor shear, "
    "SymInt height, SymInt width) -> Tensor",
    _affine_matrix,
)
composite_op(
    "keras_matrix(Tensor theta, Tensor tx, Tensor ty, Tensor shear, Tensor zx, Tensor zy, "
    "SymInt height, SymInt width, bool legacy=False) -> Tensor",
    _keras_matrix,
)
