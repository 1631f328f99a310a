"""warp_boxes: what of a box is seen, how much of it, and gradients where nothing is."""

import numpy as np
import pytest
import torch

import strop
from augment.test_points import SINGULAR, assert_equal, inverse, problem
from strop._augment.points import _warp_boxes


def corners_of(matrix, box):
    """The moved corners, one after the other; index coordinates are half a pixel off the edges."""
    left, top, right, bottom = (float(side) for side in box)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [(inverse(matrix) @ (x - 0.5, y - 0.5, 1))[:2] + 0.5 for x, y in corners]


def cut(polygon, size):
    """What of a polygon is in an image, by Sutherland and Hodgman."""
    for axis, bound, sign in ((0, 0, 1), (0, size[1], -1), (1, 0, 1), (1, size[0], -1)):
        left = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            before, after = sign * (p[axis] - bound), sign * (q[axis] - bound)
            if before >= 0:
                left.append(p)
            if before * after < 0:
                left.append(p + (q - p) * before / (before - after))
        polygon = left
    return polygon


def area_of(polygon):
    following = polygon[1:] + polygon[:1]
    return abs(sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, following, strict=True))) / 2


def box_of(matrix, box, size):
    """(the box around what is in the image, its share); None for the box where that is nothing."""
    if not (box[0] < box[2] and box[1] < box[3]):
        return [0.0] * 4, 0.0
    whole = corners_of(matrix, box)
    seen = cut(whole, size)
    if area_of(seen) < 1e-9:
        return None, 0.0
    return [*np.min(seen, 0), *np.max(seen, 0)], area_of(seen) / area_of(whole)


def is_empty(box):
    return not bool(box[0] < box[2] and box[1] < box[3])


def twin(height, width):
    return lambda boxes, matrices: _warp_boxes(boxes, matrices, height, width)


class TestBoxes:
    def test_identity_clips(self):
        identity = strop.affine_matrix(0, (0, 0), 1, 0, 8, 10)
        boxes = torch.tensor(
            [[[0.0, 0, 10, 8], [1.25, 2.5, 3, 4], [-5, -5, 99, 99], [9, 7, 20, 20]]]
        )
        expected = torch.tensor(
            [[[0.0, 0, 10, 8], [1.25, 2.5, 3, 4], [0, 0, 10, 8], [9, 7, 10, 8]]]
        )
        assert torch.equal(strop.warp_boxes(boxes, identity, size=(8, 10)), expected)

    def test_a_flip_keeps_the_pixels(self):
        """The pixels that a box holds are those that its flip holds: half a pixel would show."""
        flip = torch.tensor([[[-1.0, 0, 9], [0, 1, 0]]])
        found = strop.warp_boxes(torch.tensor([[[0.0, 1, 3, 2]]]), flip, size=(4, 10))
        assert found.tolist() == [[[7, 1, 10, 2]]]
        turn = strop.affine_matrix(90, (0, 0), 1, 0, 10, 10)
        found = strop.warp_boxes(torch.tensor([[[0.0, 0, 3, 1]]]), turn, size=(10, 10))
        torch.testing.assert_close(found, torch.tensor([[[9.0, 0, 10, 3]]]))

    def test_a_turn_by_45_degrees(self):
        matrix = strop.affine_matrix(45, (0, 0), 1, 0, 20, 20)
        half = 2 * 2**0.5
        expected = torch.tensor([[[10 - half, 10 - half, 10 + half, 10 + half]]])
        found = strop.warp_boxes(torch.tensor([[[8.0, 8, 12, 12]]]), matrix, size=(20, 20))
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_against_numpy(self, dtype):
        _, boxes, matrices = problem(each=30)
        boxes[:, ::2, 2:] = boxes[:, ::2, :2] + 8
        boxes = boxes.to(dtype)
        found, visible = strop.warp_boxes(boxes, matrices, size=(30, 50), return_visible=True)
        assert found.dtype == visible.dtype == dtype
        assert visible.shape == found.shape[:2]
        assert torch.equal(found, strop.warp_boxes(boxes, matrices, size=(30, 50)))
        close = lambda a, b: torch.testing.assert_close(a, torch.tensor(b, dtype=dtype))  # noqa: E731
        counts = [0, 0, 0]
        for i, j in np.ndindex(5, 30):
            box, share = box_of(matrices[i], boxes[i, j], (30, 50))
            counts[0 if box is None else 1 if share < 1 - 1e-9 else 2] += 1
            close(visible[i, j], share)
            if box is None:
                assert is_empty(found[i, j])
            else:
                close(found[i, j], box)
        assert min(counts) > 2

    def test_what_is_seen_alone_counts(self):
        """The hull of the whole would reach into the image where nothing of the object does."""
        turn = strop.affine_matrix(45, (0, 0), 1, 0, 20, 20)
        corner = torch.tensor([[[-14.0, 7, -5, 13]]])
        hull = np.clip(np.array(corners_of(turn[0], corner[0, 0])), 0, 20)
        assert (hull.max(0) - hull.min(0) > 1).all()  # as if seen
        for dtype in (torch.float32, torch.float16):  # by the kernel, by torch's ops
            boxes = corner.to(dtype)
            found, visible = strop.warp_boxes(boxes, turn, size=20, return_visible=True)
            assert is_empty(found[0, 0])
            assert visible.tolist() == [[0]]

    def test_the_box_of_a_mask(self):
        """An object's mask, warped, has the box that the object's box becomes, to a pixel."""
        generator = torch.Generator().manual_seed(7)
        for _ in range(60):
            draw = torch.rand(6, generator=generator)
            matrix = strop.affine_matrix(draw[:1] * 360, (draw[1] * 90 - 45, draw[2] * 90 - 45),
                                         draw[3:4] * 3 + 0.5, 0, 80, 80)  # fmt: skip
            box = torch.tensor([[[10.0, 20, 60, 50]]])
            mask = torch.zeros(1, 80, 80, dtype=torch.bool)
            mask[:, 20:50, 10:60] = True
            rows, columns = strop.warp_masks(mask, matrix)[0].nonzero().unbind(1)
            found, visible = strop.warp_boxes(box, matrix, size=80, return_visible=True)
            if len(rows) == 0:
                assert is_empty(found[0, 0]) or visible < 1e-3
                continue
            seen = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            assert ((found[0, 0] - seen).abs() <= 1.5).all(), (found, seen)

    def test_visible_shares(self):
        identity = strop.affine_matrix(0, (0, 0), 1, 0, 8, 10)
        boxes = torch.tensor([[[0.0, 0, 10, 8], [2, 2, 3, 3], [-5, 0, 5, 8], [5, 4, 15, 12],
                               [-10, -8, 20, 16], [20, 2, 30, 4], [3, 3, 3, 5], [8, 8, 3, 3]]])  # fmt: skip
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            given = boxes.to(dtype)
            visible = strop.warp_boxes(given, identity, size=(8, 10), return_visible=True)[1]
            assert visible.tolist()[0][:4] == [1, 1, 0.5, 0.25]
            torch.testing.assert_close(visible[0, 4], torch.tensor(1 / 9, dtype=dtype))
            assert visible.tolist()[0][5:] == [0, 0, 0]
        half = strop.affine_matrix(45, (0, 0), 2, 0, 8, 8)
        found, visible = strop.warp_boxes(
            torch.tensor([[[0.0, 0, 8, 8]]]), half, size=8, return_visible=True
        )
        torch.testing.assert_close(visible, torch.tensor([[1 / 4]]))  # the image in a larger one
        torch.testing.assert_close(found, torch.tensor([[[0.0, 0, 8, 8]]]))

    def test_far_and_infinite_sides_are_clipped(self):
        inf, big = torch.inf, 1e30
        boxes = torch.tensor([[[-inf, -inf, inf, inf], [-big, -big, big, big], [2, -inf, 5, inf],
                               [2, -big, 5, big], [3, 3, inf, 4], [inf, 0, inf, 4], [-inf, 1, -inf, 3],
                               [torch.nan, 0, 5, 5], [0, 0, torch.nan, 5]]])  # fmt: skip
        whole, column = [0, 0, 10, 8], [2, 0, 5, 8]
        expected = [whole, whole, column, column, [3, 3, 10, 4]] + [[0] * 4] * 4
        identity = strop.affine_matrix(0, (0, 0), 1, 0, 8, 10)
        turn = strop.affine_matrix(30, (1, 2), 1.5, 0, 8, 10)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            given = boxes.to(dtype).requires_grad_()
            for box, share in (
                strop.warp_boxes(given, identity, size=(8, 10), return_visible=True),
                strop.warp_boxes(given.detach(), identity, size=(8, 10), return_visible=True),
            ):
                assert box.tolist() == [expected]
                assert (share < 1e-20).all()
            for box in (given, given.detach()):
                found = strop.warp_boxes(box, turn, size=(8, 10))
                assert found[0, :2].tolist() == [whole, whole]
                torch.testing.assert_close(found[0, 2], found[0, 3])
        huge = boxes.double() * 1e200
        found = strop.warp_boxes(huge.nan_to_num(5, 1e300, -1e300)[:, :1], turn, size=(8, 10))
        assert found.tolist() == [[whole]]

    def test_empty_ones(self):
        matrix = strop.affine_matrix(30, (0, 0), 1, 0, 10, 10)
        empty = [[3.0, 3, 3, 8], [3, 3, 8, 3], [8, 3, 3, 9], [8, 8, 3, 3], [torch.nan, 1, 9, 9]]
        for warp in (lambda b, m: strop.warp_boxes(b, m, size=(10, 10)), twin(10, 10)):
            assert not warp(torch.tensor([empty]), matrix).any()
            assert not warp(torch.tensor([[[1.0, 1, 5, 5]]]), SINGULAR).any()
            away = warp(torch.tensor([[[1.0, 1, 5, 5]]]), matrix + torch.tensor([0, 0, 400.0]))
            assert away.tolist() == [[[0, 0, 0, 0]]]
            aside = torch.tensor([[[1.0, 0, -40], [0, 1, 0]]])
            assert warp(torch.tensor([[[1.0, 1, 5, 5]]]), aside).tolist() == [[[10, 1, 10, 5]]]


PADDING = [[0.0, 0, 0, 0], [5, 5, 5, 9], [8, 8, 3, 3], [torch.nan, 1, 9, 9], [torch.inf] * 4]


class TestNothingBehindAMask:
    """What is empty, NaN or without an inverse has a gradient of 0, and leaves the others' alone."""

    SIZE = (30, 50)

    def both(self, boxes, matrices):
        return strop.warp_boxes(boxes, matrices, size=self.SIZE, return_visible=True)

    def gradients(self, boxes, matrices):
        leaves = boxes.clone().requires_grad_(), matrices.clone().requires_grad_()
        moved, visible = self.both(*leaves)
        return torch.autograd.grad((moved * moved).sum() + visible.sum(), leaves)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("one", [False, True])
    def test_padding_boxes(self, dtype, one):
        _, boxes, matrices = problem(4, 6, seed=3)
        boxes, matrices = boxes.to(dtype), matrices[:1] if one else matrices
        padding = torch.tensor(PADDING, dtype=dtype).expand(4, -1, -1)
        of_boxes, of_matrices = self.gradients(torch.cat((boxes, padding), 1), matrices)
        alone_boxes, alone_matrices = self.gradients(boxes, matrices)
        assert alone_matrices.any()
        assert not of_boxes[:, 6:].any()
        assert_equal(of_boxes[:, :6], alone_boxes)
        torch.testing.assert_close(of_matrices, alone_matrices)
        nothing = self.gradients(padding.contiguous(), matrices)
        assert not nothing[0].any()
        assert not nothing[1].any()

    @pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf, -torch.inf, 1e38])
    def test_matrices_without_an_inverse(self, value):
        points, boxes, matrices = problem(4, 6, seed=4)
        broken = matrices.clone()
        broken[1] = value
        broken[2, :, 2] = torch.inf
        of_boxes, of_matrices = self.gradients(boxes, broken)
        alone = self.gradients(boxes, matrices)
        for found, wanted in zip((of_boxes, of_matrices), alone, strict=True):
            assert not found[1:3].any()
            assert_equal(found[[0, 3]], wanted[[0, 3]])
        leaves = points.clone().requires_grad_(), broken.clone().requires_grad_()
        moved = strop.warp_points(*leaves)
        assert moved[1:3].isnan().all()
        seen = torch.where(moved.isnan(), 0.0, moved)
        for found in torch.autograd.grad((seen * seen).sum(), leaves):
            assert found.isfinite().all()
            assert not found[1:3].any()
            assert found[0].any()

    def test_points_that_are_not_finite(self):
        points, _, matrices = problem(2, 5, seed=5)
        points[0, 1], points[1, 2, 0], points[1, 3, 1] = torch.nan, torch.inf, -torch.inf
        leaves = points.clone().requires_grad_(), matrices[:1].clone().requires_grad_()
        moved = strop.warp_points(*leaves)
        unknown = ~points.isfinite().all(-1)
        assert_equal(moved.detach(), strop.warp_points(points, matrices[:1]))
        assert torch.equal(moved.isnan().all(-1), unknown)
        loss = torch.where(unknown.unsqueeze(-1), 0.0, moved).square().sum()
        of_points, of_matrix = torch.autograd.grad(loss, leaves)
        assert not of_points[unknown].any()
        assert of_points.isfinite().all()
        assert of_matrix.isfinite().all()
        assert of_matrix.any()

    def test_second_order(self):
        _, boxes, matrices = problem(1, 2, torch.float64, seed=6)
        boxes[..., 2:] = boxes[..., :2] + 20
        boxes = torch.cat((boxes, torch.tensor([PADDING], dtype=torch.float64)), 1)
        loss = lambda b, m: sum((t * t).sum() for t in self.both(b, m))  # noqa: E731
        hessian = torch.autograd.functional.hessian(loss, (boxes, matrices.double()))
        for row in hessian:
            for part in row:
                assert part.isfinite().all()
        assert not hessian[0][0][:, 2:].any()
        assert hessian[1][1].any()

    def test_forward_mode_and_vmap(self):
        _, boxes, matrices = problem(2, 2, torch.float64, seed=6)
        padding = torch.tensor(PADDING[:4], dtype=torch.float64).expand(2, -1, -1)
        boxes = torch.cat((boxes, padding), 1)
        ones = torch.ones_like(boxes), torch.ones_like(matrices)
        _, tangents = torch.func.jvp(self.both, (boxes, matrices), ones)
        assert all(t.isfinite().all() for t in tangents)
        assert not tangents[0][:, 2:].any()
        loss = lambda b, m: sum(t.sum() for t in self.both(b[None], m[None]))  # noqa: E731
        each = torch.func.vmap(torch.func.grad(loss, (0, 1)))(boxes, matrices)
        assert all(g.isfinite().all() for g in each)

    def test_opcheck(self):
        _, boxes, matrices = problem(2, 3, seed=6)
        boxes = torch.cat((boxes, torch.tensor(PADDING[:3]).expand(2, -1, -1)), 1)
        leaves = boxes.requires_grad_(), matrices.requires_grad_()
        torch.library.opcheck(torch.ops.strop.warp_boxes.visible, (*leaves, 30, 50))
