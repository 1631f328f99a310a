"""Boxes under a warp: four corners that move, are clipped to the output, and are enclosed again.

To the bit what csrc/augment/warped_box.h computes, by ops that torch can differentiate: nothing
that a mask hides is Inf or NaN, so that what it hides gets a gradient of 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Entries above, or a determinant below, would leave float64 on the way. Images of such matrices are fill.
LARGEST_ENTRY = 2.0**100
SMALLEST_DETERMINANT = 2.0**-500
# What is farther from what the output shows, in multiples of that, is cut: it would cost accuracy.
FAR = 2.0**20


class InverseWarp(NamedTuple):
    """The way back through matrices ``[[a, b, e], [c, d, f]]``; of the identity where there is none."""

    matrices: Tensor  # [B, 2, 3], float64
    known: Tensor  # [B], whether there is one

    @staticmethod
    def of(matrices: Tensor) -> InverseWarp:
        """Of float32 or float64."""
        given = matrices.double()
        known = (given.abs() <= LARGEST_ENTRY).flatten(1).all(1)
        known = known & (_determinant(given).abs() >= SMALLEST_DETERMINANT)
        identity = torch.eye(2, 3, dtype=torch.float64, device=matrices.device)
        return InverseWarp(torch.where(known[:, None, None], given, identity), known)

    @property
    def scale(self) -> Tensor:
        """How much larger things become, [B]: negative where they are mirrored."""
        return 1 / _determinant(self.matrices)

    def moved(self, x: Tensor, y: Tensor, dim: int) -> Tensor:
        """Of coordinates [B, ...] in the input those in the output, as a dimension of their own."""
        ones = (1,) * (x.dim() - 1)
        entries = self.matrices.flatten(1).unflatten(1, (6, *ones))
        a, b, e, c, d, f = entries.unbind(1)
        x, y = x - e, y - f
        moved = torch.stack((d * x - b * y, a * y - c * x), dim)
        scale: Tensor = self.scale.unsqueeze(1).unflatten(1, (1, *ones))
        return moved * scale


def _determinant(matrices: Tensor) -> Tensor:
    a, b, _, c, d, _ = matrices.flatten(1).unbind(1)
    return a * d - b * c


class Moved(NamedTuple):
    """Boxes and what their warp makes of them, in float64."""

    boxes: Tensor  # [B, N, 4], clipped to the output
    corners: Tensor  # [B, N, 2, 4], x and y of four, one after the other
    crossings: tuple[Tensor, Tensor]  # of their edges
    limits: Tensor  # [2, 1], width and height
    area: Tensor  # [B, N], of the moved shape
    seen: Tensor  # [B, N], whether anything of it is in the output


def moved_boxes(boxes: Tensor, matrices: Tensor, height: int, width: int) -> Moved:
    """The boxes around what is in the output of what they held."""
    warp = InverseWarp.of(matrices)
    given = boxes.double()
    start, end = given.chunk(2, -1)
    some = (end > start).all(-1) & warp.known.unsqueeze(-1)
    box = _or_unit(some, given)
    # (a kernel makes the limits: a copy from the host would wait for a GPU)
    limits = (
        (torch.arange(2, device=boxes.device) * (height - width) + width).double().unsqueeze(-1)
    )
    corners = _moved(_near(box, warp, limits.squeeze(-1)), warp)
    crossings = _crossings(corners, limits)
    low, high = _span(corners, crossings, limits)
    seen = some & (high > low).all(-1)
    moved = torch.where(some.unsqueeze(-1), torch.cat((low, high), -1), 0.0)
    return Moved(moved, corners, crossings, limits, _area(box, warp), seen)


def visible_share(moved: Moved) -> Tensor:
    """How much of each moved box is in the output, 0 to 1."""
    corners = moved.corners
    inside = ((corners >= 0) & (corners <= moved.limits)).flatten(-2).all(-1)
    counts = moved.seen & (moved.area > 0)
    share = _clipped_area(moved) / torch.where(counts, moved.area, 1.0)
    share = torch.where(inside, 1.0, share.clamp(0, 1))
    return torch.where(counts, share, 0.0)


def _or_unit(known: Tensor, boxes: Tensor) -> Tensor:
    """The boxes that are known, (0, 0, 1, 1) for the others."""
    unit = (torch.arange(4, device=boxes.device) >= 2).double()
    return torch.where(known.unsqueeze(-1), boxes, unit)


def _near(box: Tensor, warp: InverseWarp, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Starts and ends of boxes, [B, N, 2], no farther from what the output shows than is FAR."""
    linear, shift = warp.matrices.detach().split((2, 1), -1)
    ends = torch.stack((torch.zeros_like(limits), limits), -1) - 0.5
    reach = linear.unsqueeze(-1) * ends  # along each axis of the input, by each of the output
    by_x, by_y = reach.amin(-1).unbind(-1)
    low = by_x + by_y + shift.squeeze(-1) + 0.5
    by_x, by_y = reach.amax(-1).unbind(-1)
    high = by_x + by_y + shift.squeeze(-1) + 0.5
    margin = FAR * (high - low + 1)
    low, high = (low - margin).unsqueeze(1), (high + margin).unsqueeze(1)
    start, end = box.chunk(2, -1)
    return start.clamp(low, high), end.clamp(low, high)


def _moved(box: tuple[Tensor, Tensor], warp: InverseWarp) -> Tensor:
    """The corners, clockwise from the upper left one. Edges are half a pixel off index coordinates."""
    (left, top), (right, bottom) = ((end - 0.5).unbind(-1) for end in box)
    x = torch.stack((left, right, right, left), -1)
    y = torch.stack((top, top, bottom, bottom), -1)
    return warp.moved(x, y, -2) + 0.5


def _area(box: Tensor, warp: InverseWarp) -> Tensor:
    finite = box.isfinite().all(-1)
    start, end = _or_unit(finite, box).chunk(2, -1)
    width, height = (end - start).unbind(-1)
    area = width * height * warp.scale.abs().unsqueeze(-1)
    return torch.where(finite, area, torch.inf)


def _next(corners: Tensor) -> Tensor:
    return corners.roll(-1, -1)


def _along(from_: Tensor, to: Tensor, at: Tensor) -> Tensor:
    """A point of an edge, exact at both ends."""
    step = to - from_
    return torch.where(at < 0.5, from_ + at * step, to - (1 - at) * step)


def _crossings(corners: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Where edges come to and leave [0, limit], 0 to 1 along each; all of an edge that runs along it."""
    step = _next(corners) - corners
    level = step == 0
    divisor = torch.where(level, 1.0, step)
    first, second = -corners / divisor, (limits - corners) / divisor
    begin = torch.minimum(first, second).clamp(0, 1)
    end = torch.maximum(first, second).clamp(0, 1)
    return torch.where(level, 0.0, begin), torch.where(level, 1.0, end)


def _span(
    corners: Tensor, crossings: tuple[Tensor, Tensor], limits: Tensor
) -> tuple[Tensor, Tensor]:
    """The range along each axis of what of a shape is in the output.

    That is the range of its edges between the output's sides on the other axis, clipped: a convex shape
    has no gaps. Where none is between them, it is the whole shape's.
    """
    following = _next(corners)
    low, high = torch.minimum(corners, following), torch.maximum(corners, following)
    meets = ((low <= limits) & (high >= 0)).flip(-2)
    first, second = (
        torch.where(meets, _along(corners, following, at.flip(-2)), corners) for at in crossings
    )
    counts = meets | ~meets.any(-1, keepdim=True)
    least = torch.where(counts, torch.minimum(first, second), torch.inf).amin(-1)
    most = torch.where(counts, torch.maximum(first, second), -torch.inf).amax(-1)
    limit = limits.squeeze(-1)
    zero = torch.zeros_like(limit)
    return least.clamp(zero, limit), most.clamp(zero, limit)


def _clipped_area(moved: Moved) -> Tensor:
    """The area of what of a shape is in the output.

    By Green's theorem it is the integral of x, clipped, over y along the edges, as far as y is between the
    output's top and bottom: three straight pieces an edge, between the output's left and right.
    """
    (enter_x, enter_y), (leave_x, leave_y) = (at.unbind(-2) for at in moved.crossings)
    enter_x, leave_x = (at.clamp(enter_y, leave_y) for at in (enter_x, leave_x))
    stops = torch.stack((enter_y, enter_x, leave_x, leave_y), -1).unsqueeze(-3)
    corners = moved.corners.unsqueeze(-1)
    points = _along(corners, corners.roll(-1, -2), stops)
    limits = moved.limits.unsqueeze(-1)
    x, y = points.clamp(torch.zeros_like(limits), limits).unbind(-3)
    pieces = (x[..., :-1] + x[..., 1:]) * (y[..., 1:] - y[..., :-1])
    first, second, third = pieces.unbind(-1)
    edges = (first + second + third).unbind(-1)
    return ((edges[0] + edges[1]) + (edges[2] + edges[3])).abs() / 2
