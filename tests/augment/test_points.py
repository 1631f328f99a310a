"""warp_points and warp_boxes: the way back through matrices, by a kernel and by torch's ops."""

import re

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import strop
from core.devices import to_array
from strop import _C
from strop._augment.points import _warp_boxes, _warp_boxes_visible, _warp_points

number = lambda low, high: st.floats(low, high, allow_subnormal=False, width=32)  # noqa: E731
SINGULAR = torch.tensor([[[1.0, 2, 3], [2, 4, 5]]])
THIRD = 1 / 3


def problem(count=5, each=7, dtype=torch.float32, seed=0):
    """(points, boxes, matrices): boxes some of which are empty, leave the image or surround it."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=dtype)  # noqa: E731
    angle, translate, shear = draw(count) * 360, draw(count, 2) * 60 - 30, draw(count, 2) * 80 - 40
    matrices = strop.affine_matrix(angle, translate, draw(count) + 0.5, shear, 40, 60)
    boxes = draw(count, each, 4) * 90 - 20
    return draw(count, each, 2) * 60, boxes, matrices


def peculiar_problem(dtype, matrix_dtype):
    """The same with matrices that have no inverse, and with points and boxes that are not finite."""
    points, boxes, matrices = problem(50, 33, dtype)
    matrices = matrices.to(matrix_dtype)
    matrices[3] = SINGULAR
    matrices[4:8, :, 2] = torch.tensor([torch.inf, torch.nan, 1e30, -torch.inf])[:, None]
    matrices[8, 0, 0] = torch.nan
    matrices[9:12] = torch.tensor([[2.0, 0, -3], [0, 0.5, 7]])  # edges along the output's
    boxes[9], points[9] = torch.inf, -torch.inf
    boxes[12, :, :2], boxes[13, :, 2:], boxes[14] = -torch.inf, 1e30, boxes[14] * 1e20
    boxes[15, :, 3], points[15] = torch.nan, torch.nan
    boxes[16:20] = boxes[16:20].round()
    return points, boxes, matrices


def inverse(matrix):
    """(x, y, 1) of the input to that of the output, in float64."""
    return np.linalg.inv(np.vstack((matrix.double().numpy(), (0, 0, 1))))


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


class TestPoints:
    @hypothesis.given(
        number(-400, 400),
        st.tuples(number(-300, 300), number(-300, 300)),
        number(0.125, 8),
        st.tuples(number(-70, 70), number(-70, 70)),
        st.tuples(number(-4096, 4096), number(-4096, 4096)),
    )
    def test_invert_the_matrix(self, angle, translate, scale, shear, point):
        matrix = strop.affine_matrix(angle, translate, scale, shear, 200, 300).double()
        points = torch.tensor([[point]], dtype=torch.float64)
        there = strop.warp_points(points, matrix)
        back = (matrix[0] @ torch.cat((there[0, 0], torch.ones(1).double())))[None, None]
        assert (back - points).abs().max() < 1e-9 * (1 + points.abs().max() + there.abs().max())

    def test_one_after_the_other(self):
        points, _, first = problem(seed=1, dtype=torch.float64)
        second = problem(seed=2)[2]
        whole = lambda m: torch.cat((m.double(), torch.tensor([[[0.0, 0, 1]]]).expand(5, 1, 3)), 1)  # noqa: E731
        both = (whole(first) @ whole(second))[:, :2]  # the output of the second is sampled first
        one_by_one = strop.warp_points(strop.warp_points(points, first), second)
        torch.testing.assert_close(
            strop.warp_points(points, both), one_by_one, rtol=1e-9, atol=1e-9
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_against_numpy(self, dtype):
        points, _, matrices = problem()
        points = points.to(dtype)
        found = strop.warp_points(points, matrices)
        assert found.dtype == dtype
        for i in range(5):
            homogeneous = np.pad(points[i].double().numpy(), ((0, 0), (0, 1)), constant_values=1)
            expected = torch.from_numpy((homogeneous @ inverse(matrices[i]).T)[:, :2])
            torch.testing.assert_close(found[i], expected.to(dtype), rtol=1e-6, atol=1e-5)

    def test_without_an_inverse(self):
        points = torch.tensor([[[0.0, 0], [3, 5], [7, 1]]])
        thirds = torch.tensor([[[THIRD, 2 * THIRD, 0], [THIRD / 4, THIRD / 2, 0]]])  # to the bit
        nearly = torch.tensor([[[1.0, 1, 0], [1, 1 + 2**-23, 0]]])
        for matrix in (SINGULAR, torch.zeros(1, 2, 3), thirds, SINGULAR * torch.inf):
            for warp in (strop.warp_points, _warp_points):
                assert warp(points, matrix).isnan().all()
        assert strop.warp_points(points, nearly).isfinite().all()
        mixed = strop.warp_points(points.expand(2, 3, 2), torch.cat((SINGULAR, nearly)))
        assert torch.equal(mixed[1:], strop.warp_points(points, nearly))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("matrix_dtype", [torch.float32, torch.float64])
class TestOracle:
    """The kernels against the plain loops, which clip polygons where the kernel asks its edges."""

    def test_points(self, dtype, matrix_dtype):
        points, _, matrices = map(to_array, peculiar_problem(dtype, matrix_dtype))
        for given in ((points, matrices), (points[:, ::-1, ::-1], matrices[:1])):
            expected = _C.reference.warp_points(*given)
            np.testing.assert_array_equal(_C.cpu.warp_points(*given), expected)
            assert np.isnan(expected).any()
            assert np.isfinite(expected).sum() > expected.size / 2

    def test_boxes(self, dtype, matrix_dtype):
        _, boxes, matrices = map(to_array, peculiar_problem(dtype, matrix_dtype))
        for given in (
            (boxes, matrices, 30, 50),
            (boxes.swapaxes(0, 1)[:, ::2], matrices[:1], 30, 50),
        ):
            found, shares = _C.cpu.warp_boxes_visible(*given)
            expected, wanted = _C.reference.warp_boxes_visible(*given)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(shares, wanted, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(_C.cpu.warp_boxes(*given), found)
            np.testing.assert_array_equal(_C.reference.warp_boxes(*given), expected)
            assert ((wanted > 0.01) & (wanted < 0.99)).any()
            assert (wanted == 0).any()
            assert (wanted > 0.9999).any()

    def test_errors(self, dtype, matrix_dtype):
        _, boxes, matrices = map(to_array, peculiar_problem(dtype, matrix_dtype))
        for module in (_C.cpu, _C.reference):
            with pytest.raises(ValueError, match=r"strop.warp_points: \[B, N, 2\] and matrices"):
                module.warp_points(boxes, matrices)
            with pytest.raises(ValueError, match=r"strop.warp_boxes: \[B, N, 4\] and matrices"):
                module.warp_boxes(boxes, matrices[:7], 30, 50)
            with pytest.raises(TypeError, match="strop.warp_boxes: float32 or float64 is needed"):
                module.warp_boxes_visible(boxes, np.zeros((50, 2, 3), np.float16), 30, 50)


class TestTorch:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("matrix_dtype", [torch.float32, torch.float64])
    def test_the_kernel_gives_the_bits_of_the_composite(self, dtype, matrix_dtype):
        points, boxes, matrices = peculiar_problem(dtype, matrix_dtype)
        for each, m in (
            (slice(None), matrices),
            (slice(1), matrices[:1]),
            (slice(None), matrices[:1]),
        ):
            assert_equal(strop.warp_points(points[each], m), _warp_points(points[each], m))
            found = strop.warp_boxes(boxes[each], m, size=(30, 50))
            assert_equal(found, _warp_boxes(boxes[each], m, 30, 50))
            both = strop.warp_boxes(boxes[each], m, size=(30, 50), return_visible=True)
            for of_kernel, of_composite in zip(
                both, _warp_boxes_visible(boxes[each], m, 30, 50), strict=True
            ):
                assert_equal(of_kernel, of_composite)

    def test_threads_do_not_matter(self):
        points, boxes, matrices = problem(40, 500)
        threads, results = torch.get_num_threads(), []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            moved = strop.warp_boxes(boxes, matrices, size=(30, 50))
            results.append((strop.warp_points(points, matrices), moved))
        torch.set_num_threads(threads)
        for result in results[1:]:
            assert_equal(result, results[0])

    def test_strides(self):
        points, boxes, matrices = problem(6, 8)
        for points_view, matrix_view in (
            (points.flip(2)[:, ::2], matrices),
            (points.transpose(0, 1).contiguous().transpose(0, 1), matrices.mT.contiguous().mT),
            (points[:1].expand(6, 8, 2), matrices[:1].expand(6, 2, 3)),
        ):
            found = strop.warp_points(points_view, matrix_view)
            assert_equal(found, strop.warp_points(points_view.clone(), matrix_view.clone()))
        spread = torch.cat((boxes, boxes), -1)[:, 1::3, ::2][..., :4]
        expected = strop.warp_boxes(spread.clone(), matrices, size=(9, 9))
        assert_equal(strop.warp_boxes(spread, matrices, size=(9, 9)), expected)

    @pytest.mark.parametrize(("count", "each"), [(0, 3), (3, 0), (0, 0)])
    def test_nothing_to_move(self, count, each):
        for dtype in (torch.float32, torch.float16):  # by the kernel, by torch's ops
            points = torch.zeros(count, each, 2, dtype=dtype)
            boxes, matrices = torch.zeros(count, each, 4, dtype=dtype), torch.zeros(count, 2, 3)
            assert strop.warp_points(points, matrices).shape == (count, each, 2)
            assert strop.warp_boxes(boxes, matrices, size=(4, 4)).shape == (count, each, 4)

    def test_gradients(self):
        points, boxes, matrices = problem(3, 4, torch.float64)
        boxes[..., 2:] = boxes[..., :2] + 20  # none is empty
        tensors = [t.double().requires_grad_() for t in (points, boxes, matrices)]
        assert torch.autograd.gradcheck(strop.warp_points, (tensors[0], tensors[2]))
        assert torch.autograd.gradgradcheck(strop.warp_points, (tensors[0], tensors[2]))
        clipped = lambda b, m: strop.warp_boxes(b, m, size=(30, 50))  # noqa: E731
        both = lambda b, m: strop.warp_boxes(b, m, size=(30, 50), return_visible=True)  # noqa: E731
        assert torch.autograd.gradcheck(both, (tensors[1], tensors[2]))
        assert torch.autograd.gradgradcheck(both, (tensors[1], tensors[2]))
        assert_equal(
            clipped(*tensors[1:]).detach(), clipped(tensors[1].detach(), tensors[2].detach())
        )

    def test_ops(self):
        points, boxes, matrices = problem(3, 4)
        ops = torch.ops.strop
        assert_equal(ops.warp_points(points, matrices), strop.warp_points(points, matrices))
        found = ops.warp_boxes(boxes, matrices, 30, 50)
        assert_equal(found, strop.warp_boxes(boxes, matrices, size=(30, 50)))
        for op in (ops.warp_points, ops._warp_points):
            torch.library.opcheck(op.default, (points, matrices))
        for op in (ops.warp_boxes, ops._warp_boxes, ops._warp_boxes_visible):
            torch.library.opcheck(op.default, (boxes, matrices, 30, 50))
        torch.library.opcheck(ops.warp_boxes.visible, (boxes, matrices, 30, 50))
        with pytest.raises(RuntimeError, match=r"strop.warp_points: \[B, N, 2\] and matrices"):
            ops._warp_points(boxes, matrices)
        with pytest.raises(RuntimeError, match="strop.warp_boxes: float32 or float64 is needed"):
            ops._warp_boxes(boxes.half(), matrices, 30, 50)

    def test_compile_and_export(self):
        class Module(torch.nn.Module):
            def forward(self, points, boxes, matrices):
                size = (30, boxes.shape[1])
                moved = strop.warp_boxes(boxes, matrices, size=size, return_visible=True)
                return strop.warp_points(points, matrices), *moved

        module = Module()
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
        for count, each in ((3, 40), (5, 60)):
            given = problem(count, each)
            for found, expected in zip(compiled(*given), module(*given), strict=True):
                torch.testing.assert_close(found, expected)
        shapes = tuple({0: torch.export.Dim("B")} for _ in range(3))
        exported = torch.export.export(module, problem(4, 7), dynamic_shapes=shapes).module()
        given = problem(6, 7)
        for found, expected in zip(exported(*given), module(*given), strict=True):
            assert_equal(found, expected)

    def test_transforms(self):
        points, boxes, matrices = problem(3, 4)
        stacked = torch.stack((points, points + 1))
        both = torch.func.vmap(strop.warp_points, (0, None))(stacked, matrices)
        assert_equal(both[1], strop.warp_points(points + 1, matrices))
        of_boxes = lambda m: strop.warp_boxes(boxes, m, size=(30, 50))  # noqa: E731
        both = torch.func.vmap(of_boxes)(torch.stack((matrices, matrices.flip(0))))
        assert_equal(both[1], of_boxes(matrices.flip(0)))
        _, tangent = torch.func.jvp(of_boxes, (matrices,), (torch.ones_like(matrices),))
        assert tangent.any()

    def test_autocast_keeps_the_dtype(self):
        points, boxes, matrices = problem(3, 4)
        expected = strop.warp_points(points, matrices)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_equal(strop.warp_points(points, matrices), expected)
            assert_equal(_warp_points(points, matrices), expected)


P, M = torch.zeros(2, 3, 2), torch.zeros(2, 2, 3)


@pytest.mark.parametrize(
    ("points", "matrices", "kind", "text"),
    [
        ([1, 2], M, TypeError, "points is a list; a tensor is needed"),
        (P, None, TypeError, "matrices is a NoneType; a tensor is needed"),
        (
            P.to_sparse(),
            M,
            TypeError,
            "points has layout torch.sparse_coo; torch.strided is needed",
        ),
        (P.long(), M, TypeError, "points has dtype int64; float32, bfloat16, float16 or float64"),
        (P, M.half(), TypeError, "matrices has dtype float16; float32 or float64 is needed"),
        (P[0], M, ValueError, "points has shape [3, 2]; [B, N, 2] is needed"),
        (P.mT, M, ValueError, "points has shape [2, 2, 3]; [B, N, 2] is needed"),
        (P, M.mT, ValueError, "matrices has shape [2, 3, 2]; [B, 2, 3] is needed"),
        (P, M[0], ValueError, "matrices has shape [2, 3]; [B, 2, 3] is needed"),
        (
            P[:1],
            M,
            ValueError,
            "there are 2 matrices for points of 1 samples; one for each, or one",
        ),
        (
            P,
            M.to("meta"),
            ValueError,
            "matrices is on meta and points on cpu; one device is needed",
        ),
    ],
)
def test_points_refuse(points, matrices, kind, text):
    with pytest.raises(kind, match="strop.warp_points: " + re.escape(text)):
        strop.warp_points(points, matrices)


@pytest.mark.parametrize(
    ("boxes", "size", "kind", "text"),
    [
        (P, (4, 4), ValueError, "boxes has shape [2, 3, 2]; [B, N, 4] is needed"),
        (P, 4.0, TypeError, "size is a float; an int or a pair (rows, columns) is needed"),
        (P, None, TypeError, "size is None; an int or a pair (rows, columns) is needed"),
        (P, (4, 4.0), TypeError, "an entry of size is a float; an int is needed"),
        (P, (4, True), TypeError, "an entry of size is a bool; an int is needed"),
        (P, (4,), ValueError, "size is (4,); (height, width), each 0 or more, is needed"),
        (P, (4, -1), ValueError, "size is (4, -1); (height, width), each 0 or more, is needed"),
    ],
)
def test_boxes_refuse(boxes, size, kind, text):
    boxes = boxes if "shape" in text else torch.cat((boxes, boxes), -1)
    with pytest.raises(kind, match="strop.warp_boxes: " + re.escape(text)):
        strop.warp_boxes(boxes, M, size=size)


def test_integers_of_numpy_are_integers():
    boxes, expected = torch.tensor([[[0.0, 0, 9, 9]]]).expand(2, 1, 4), [[[0, 0, 6, 5]]]
    identity = strop.affine_matrix(0, (0, 0), 1, 0, 9, 9)
    found = strop.warp_boxes(boxes[:1], identity, size=(np.int64(5), np.int64(6)))
    assert found.tolist() == expected
