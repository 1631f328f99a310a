"""affine_matrix and keras_matrix: against products of 3x3 matrices in float64, and Keras itself."""

import math
import re

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy import ndimage

import strop
from strop._augment.matrices import _affine, _keras

SIZES = [(1, 1), (5, 5), (4, 9), (256, 199), (7, 4096)]


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def rotation(degrees):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def affine(angle, translate, scale, shear, height, width):
    """The definition: the inverse of T C R S SHy SHx C^-1, [2, 3] in float64."""
    center = (width - 1) / 2, (height - 1) / 2
    tan_x, tan_y = (math.tan(math.radians(degrees)) for degrees in shear)
    forward = (
        shift(*translate)
        @ shift(*center)
        @ rotation(angle)
        @ np.diag([scale, scale, 1])
        @ np.array([[1, 0, 0], [-tan_y, 1, 0], [0, 0, 1]])
        @ np.array([[1, -tan_x, 0], [0, 1, 0], [0, 0, 1]])
        @ shift(-center[0], -center[1])
    )
    return np.linalg.inv(forward)[:2]


def keras(theta, tx, ty, shear, zx, zy, height, width):
    """(row, column) of the output to those of the input, [3, 3] in float64."""
    turn = math.radians(shear)
    product = (
        rotation(theta)
        @ shift(tx, ty)
        @ np.array([[1, -math.sin(turn), 0], [0, math.cos(turn), 0], [0, 0, 1]])
        @ np.diag([zx, zy, 1])
    )
    center = height / 2 - 0.5, width / 2 - 0.5
    return shift(*center) @ product @ shift(-center[0], -center[1])


SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def close(found, expected):
    """Within the rounding to float32 of terms of this size."""
    bound = 1e-7 * np.abs(expected).max(-1, keepdims=True) + 1e-10
    return bool((np.abs(found.double().numpy() - expected) <= bound).all())


number = lambda low, high: st.floats(low, high, allow_subnormal=False)  # noqa: E731


class TestAffine:
    @hypothesis.given(
        number(-400, 400),
        st.tuples(number(-300, 300), number(-300, 300)),
        number(0.1, 8),
        st.tuples(number(-80, 80), number(-80, 80)),
        st.sampled_from(SIZES),
    )
    def test_is_the_inverse_of_the_product(self, angle, translate, scale, shear, size):
        found = strop.affine_matrix(angle, translate, scale, shear, *size)
        assert found.dtype == torch.float32
        assert found.shape == (1, 2, 3)
        expected = affine(angle, translate, scale, shear, *size)
        largest = np.abs(expected).max()
        assert np.abs(found[0].double().numpy() - expected).max() <= 1e-7 * largest

    @hypothesis.given(st.integers(1, 5000), st.integers(1, 5000))
    def test_identity_is_exact(self, height, width):
        found = strop.affine_matrix(0, (0, 0), 1, 0, height, width)
        assert torch.equal(found, torch.eye(3)[None, :2])
        assert not torch.signbit(found).any()

    def test_senses(self):
        """Clockwise, right and down, larger: where the output's pixels come from."""
        at = lambda m, j, i: (m[0] @ torch.tensor([j, i, 1.0])).round(decimals=4).tolist()  # noqa: E731
        turned = strop.affine_matrix(90, (0, 0), 1, 0, 11, 11)
        assert at(turned, 10, 5) == [5, 0]  # the right shows the top
        assert at(strop.affine_matrix(0, (3, 1), 1, 0, 11, 11), 3, 1) == [0, 0]
        assert at(strop.affine_matrix(0, (0, 0), 2, 0, 11, 11), 9, 5) == [7, 5]
        sheared = strop.affine_matrix(0, (0, 0), 1, 45, 11, 11)
        assert at(sheared, 5, 10) == [10, 10]  # the bottom moved to the left
        assert at(strop.affine_matrix(0, (0, 0), 1, (0, 45), 11, 11), 10, 5) == [10, 10]
        # Translated last, and neither turned nor scaled.
        both = strop.affine_matrix(90, (3, 1), 2, 0, 11, 11)
        assert at(both, 5 + 3, 5 + 1) == [5, 5]

    def test_batches(self):
        generator = torch.Generator().manual_seed(0)
        angle, scale = torch.rand(2, 6, generator=generator) * 40 + 0.5
        translate, shear = torch.rand(2, 6, 2, generator=generator) * 30
        found = strop.affine_matrix(angle, translate, scale, shear, 40, 50)
        assert found.shape == (6, 2, 3)
        for i in range(6):
            plain = (angle[i], translate[i].tolist(), scale[i], shear[i].tolist())
            assert torch.equal(found[i : i + 1], strop.affine_matrix(*plain, 40, 50))

    def test_what_stands_for_what(self):
        one = strop.affine_matrix(20, (3, 4), 1.5, (5, 6), 8, 9)
        pair, array = torch.tensor([3.0, 4.0]), np.array([[3, 4]])
        for translate in (pair, pair[None], array, [3, 4], [[3, 4]], np.array([3, 4])):
            assert torch.equal(strop.affine_matrix([20], translate, 1.5, (5, 6), 8, 9), one)
        column = torch.full((3,), 4.0)
        found = strop.affine_matrix(20, (3, column), np.float32(1.5), [[5, 6]], 8, 9)
        assert torch.equal(found, one.expand(3, 2, 3))
        angles = [20, 20, 20]
        for angle in (angles, np.array(angles), torch.tensor(angles), torch.tensor(angles).half()):
            assert torch.equal(strop.affine_matrix(angle, (3, 4), 1.5, (5, 6), 8, 9), found)
        assert torch.equal(strop.affine_matrix(torch.tensor(20), (3, 4), 1.5, (5, 6), 8, 9), one)

    def test_one_shear_is_along_x(self):
        along_x = strop.affine_matrix(0, (0, 0), 1, (7, 0), 8, 9)
        assert torch.equal(strop.affine_matrix(0, (0, 0), 1, 7, 8, 9), along_x)
        two = strop.affine_matrix(0, (0, 0), 1, torch.tensor([7.0, 0.0]), 8, 9)
        assert torch.equal(two, torch.cat((along_x, torch.eye(3)[None, :2])))

    def test_no_samples(self):
        none = torch.zeros(0)
        assert strop.affine_matrix(none, (0, 0), 1, 0, 8, 9).shape == (0, 2, 3)
        assert strop.keras_matrix(0, none, none, 0, 1, 1, 8, 9).shape == (0, 2, 3)


class TestKeras:
    @hypothesis.given(
        number(-400, 400),
        st.tuples(number(-300, 300), number(-300, 300)),
        number(-80, 80),
        st.tuples(number(0.1, 4), number(0.1, 4)),
        st.sampled_from(SIZES),
    )
    def test_is_the_product(self, theta, shifts, shear, zoom, size):
        height, width = size
        given = (theta, *shifts, shear, *zoom)
        rows_first = keras(*given, height, width)
        found = strop.keras_matrix(*given, height, width)
        assert close(found[0], (SWAP @ rows_first @ SWAP)[:2])
        found = strop.keras_matrix(*given, height, width, legacy=True)
        assert close(found[0], rows_first[:2])  # read as (x, y): what a swap of both makes of it

    def test_documented_meaning(self):
        image = np.zeros((6, 10))
        image[2, 7] = 1
        down = warped(image, strop.keras_matrix(0, -1, 0, 0, 1, 1, 6, 10))
        assert np.argwhere(down == 1).tolist() == [[3, 7]]
        left = warped(image, strop.keras_matrix(0, 0, 2, 0, 1, 1, 6, 10))
        assert np.argwhere(left == 1).tolist() == [[2, 5]]
        around = warped(image, strop.keras_matrix(180, 0, 0, 0, 1, 1, 6, 10))
        assert np.argwhere(around > 0.99).tolist() == [[3, 2]]
        half = strop.keras_matrix(0, 0, 0, 0, 1, 2, 6, 10)  # along the width alone
        assert torch.equal(half, torch.tensor([[[2.0, 0, -4.5], [0, 1, 0]]]))

    def test_senses(self):
        """As the docstring has them: turns and shears of the one kind and of the other."""
        given = (0, 0, 0, 1, 1, 9, 9)
        turned = strop.keras_matrix(30, *given)
        assert close(turned[0], affine(30, (0, 0), 1, (0, 0), 9, 9))
        turned = strop.keras_matrix(30, *given, legacy=True)
        assert close(turned[0], affine(-30, (0, 0), 1, (0, 0), 9, 9))
        # The input's (8, 4), the middle of the right side, and (4, 8), the middle of the bottom.
        points, slope, stretch = torch.tensor([[[8.0, 4], [4, 8]]]), 3**-0.5, 2 / 3**0.5
        found = strop.warp_points(points, strop.keras_matrix(0, 0, 0, 30, 1, 1, 9, 9))
        lowered = torch.tensor([[[4 + 4 * stretch, 4 + 4 * slope], [4, 8]]])
        torch.testing.assert_close(found, lowered)
        legacy = strop.keras_matrix(0, 0, 0, 30, 1, 1, 9, 9, legacy=True)
        found = strop.warp_points(points, legacy)
        torch.testing.assert_close(found, lowered.flip(1, 2))

    def test_legacy_moves_columns_by_the_height_shift(self):
        found = strop.keras_matrix(0, 3, 0, 0, 1, 1, 6, 10, legacy=True)
        assert torch.equal(found, torch.tensor([[[1.0, 0, 3], [0, 1, 0]]]))

    def test_batches(self):
        given = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) + 0.5
        found = strop.keras_matrix(*given, 40, 50)
        for i in range(5):
            assert torch.equal(found[i : i + 1], strop.keras_matrix(*given[:, i], 40, 50))
        same = strop.keras_matrix(given[0], 1, 2, [3] * 5, 1, np.ones(5), 40, 50)
        assert torch.equal(same, strop.keras_matrix(given[0], 1, 2, 3, 1, 1, 40, 50))

    @pytest.mark.parametrize("shape", [(16, 16), (12, 21), (21, 12)])
    def test_against_keras(self, shape, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        image_module = pytest.importorskip(
            "keras.src.legacy.preprocessing.image", reason="Keras is not installed"
        )
        generator = np.random.default_rng(0)
        image = generator.uniform(0, 255, shape)
        for _ in range(20):
            theta, shear = generator.uniform(-40, 40, 2)
            tx, ty = generator.uniform(-4, 4, 2)
            zx, zy = generator.uniform(0.7, 1.4, 2)
            given = {"theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy}
            expected = image_module.apply_affine_transform(
                image[..., None], **given, row_axis=0, col_axis=1, channel_axis=2
            )
            found = warped(image, strop.keras_matrix(*given.values(), *shape, legacy=True))
            assert np.abs(found - expected[..., 0]).max() < 1e-2


def warped(image, matrix, mode="nearest"):
    """The image by a matrix, with scipy, whose order is (row, column)."""
    by_rows = matrix[0].double().numpy()[::-1]
    linear, offset = by_rows[:, 1::-1], by_rows[:, 2]
    return ndimage.affine_transform(image, linear, offset, order=1, mode=mode)


class TestTorch:
    """One code for every device and transform: what torch makes of it."""

    B = 3

    def arguments(self, dtype=torch.float32):
        generator = torch.Generator().manual_seed(2)
        return torch.rand(8, self.B, generator=generator, dtype=dtype) + 0.5

    def test_gradients(self):
        c = [column.requires_grad_() for column in self.arguments(torch.float64)]
        pairs = lambda x, y: torch.stack((x, y), -1)  # noqa: E731
        angle = lambda a, x, y, s, p, q: _affine(a, pairs(x, y), s, pairs(p, q), 8, 9)  # noqa: E731
        assert torch.autograd.gradcheck(angle, c[:6])
        for legacy in (False, True):
            keras_of = lambda *given: _keras(*given, 8, 9, legacy)  # noqa: B023, E731
            assert torch.autograd.gradcheck(keras_of, c[:6])
        assert strop.affine_matrix(c[0], (c[1], 2), c[2], c[3], 8, 9).grad_fn is not None

    def test_ops(self):
        c = self.arguments()
        pairs = torch.stack((c[1], c[2]), -1)
        affine_op, keras_op = torch.ops.strop.affine_matrix, torch.ops.strop.keras_matrix
        given = (c[0], pairs, c[3], pairs, 8, 9)
        assert torch.equal(affine_op(*given), strop.affine_matrix(*given))
        torch.library.opcheck(affine_op.default, given)
        assert torch.equal(
            keras_op(*c[:6], 8, 9, True), strop.keras_matrix(*c[:6], 8, 9, legacy=True)
        )
        torch.library.opcheck(keras_op.default, (*c[:6], 8, 9))

    def test_compile(self):
        def both(angle, shear, height):
            first = strop.affine_matrix(angle, (1, angle), 2.0, shear, height, 9)
            return first + strop.keras_matrix(angle, 1.5, [2] * len(angle), 0, angle, 1, height, 9)

        compiled = torch.compile(both, backend="aot_eager", fullgraph=True, dynamic=True)
        for count in (3, 5):
            angle, shear = torch.rand(count) + 1, torch.rand(count, 2)
            torch.testing.assert_close(compiled(angle, shear, 8), both(angle, shear, 8))

    def test_export(self):
        class Module(torch.nn.Module):
            def forward(self, angle):
                return strop.affine_matrix(angle, (1, 2), 1.5, 3.0, 8, 9)

        dynamic = {"angle": {0: torch.export.Dim("B")}}
        exported = torch.export.export(Module(), (torch.rand(4),), dynamic_shapes=dynamic)
        angle = torch.rand(7)
        assert torch.equal(exported.module()(angle), Module()(angle))

    def test_vmap(self):
        c = torch.rand(4, 3) + 0.5
        found = torch.func.vmap(lambda a: strop.affine_matrix(a, (1, 2), a, 3, 8, 9))(c)
        assert torch.equal(
            found, torch.stack([strop.affine_matrix(a, (1, 2), a, 3, 8, 9) for a in c])
        )
        found = torch.func.vmap(lambda a: strop.keras_matrix(a, a, 0, 0, a, 1, 8, 9))(c)
        assert torch.equal(
            found, torch.stack([strop.keras_matrix(a, a, 0, 0, a, 1, 8, 9) for a in c])
        )


A, K = (0, (0, 0), 1, 0, 8, 9), (0, 0, 0, 0, 1, 1, 8, 9)


@pytest.mark.parametrize(
    ("place", "value", "kind", "text"),
    [
        (0, "5", TypeError, "angle is a str; numbers or a tensor are needed"),
        (0, None, TypeError, "angle is a NoneType; numbers or a tensor are needed"),
        (0, True, TypeError, "angle is a bool; numbers or a tensor are needed"),
        (0, ["a"], TypeError, "angle is ['a']; numbers are needed"),
        (0, torch.zeros(2, 2), ValueError, "angle has shape [2, 2]; [B] is needed"),
        (0, torch.zeros(2).bool(), TypeError, "angle has dtype bool; a floating or integer dtype"),
        (0, torch.zeros(2) + 1j, TypeError, "angle has dtype complex64"),
        (1, 3, TypeError, "translate is a int; numbers or a tensor are needed"),
        (1, (1, 2, 3), ValueError, "translate has 3 entries; a pair (x, y) is needed"),
        (1, ("a", 2), TypeError, "translate is ('a', 2); numbers are needed"),
        (
            1,
            (torch.zeros(2), torch.zeros(3)),
            ValueError,
            "translate has entries of shapes [2] and [3]",
        ),
        (1, torch.zeros(3), ValueError, "translate has shape [3]; [B, 2] is needed"),
        (1, torch.zeros(3, 3), ValueError, "translate has shape [3, 3]; [B, 2] is needed"),
        (2, 0, ValueError, "scale is 0; it must be above 0"),
        (2, -1.5, ValueError, "scale is -1.5; it must be above 0"),
        (2, math.nan, ValueError, "scale is nan; it must be above 0"),
        (2, [1, -1], ValueError, "scale is [1, -1]; it must be above 0"),
        (3, "x", TypeError, "shear is a str; numbers or a tensor are needed"),
        (3, (1,), ValueError, "shear has 1 entries; a pair (x, y) is needed"),
        (3, torch.zeros(3, 1), ValueError, "shear has shape [3, 1]; [B, 2] is needed"),
        (4, 8.0, TypeError, "height is a float; an int is needed"),
        (4, -1, ValueError, "height is -1; it must be 0 or more"),
        (5, None, TypeError, "width is a NoneType; an int is needed"),
        (5, True, TypeError, "width is a bool; an int is needed"),
    ],
)
def test_affine_refuses(place, value, kind, text):
    given = [*A[:place], value, *A[place + 1 :]]
    with pytest.raises(kind, match="strop.affine_matrix: " + re.escape(text)):
        strop.affine_matrix(*given)


@pytest.mark.parametrize(
    ("place", "value", "kind", "text"),
    [
        (1, "5", TypeError, "tx is a str; numbers or a tensor are needed"),
        (3, torch.zeros(2, 2), ValueError, "shear has shape [2, 2]; [B] is needed"),
        (5, [[1.0]], ValueError, "zy has shape [1, 1]; [B] is needed"),
        (6, 1.0, TypeError, "height is a float"),
        (7, -3, ValueError, "width is -3"),
    ],
)
def test_keras_refuses(place, value, kind, text):
    given = [*K[:place], value, *K[place + 1 :]]
    with pytest.raises(kind, match="strop.keras_matrix: " + re.escape(text)):
        strop.keras_matrix(*given)


def test_batches_that_do_not_fit():
    two, three = torch.ones(2), torch.ones(3)
    text = "scale has 3 samples and angle 2; one number of samples, or 1, is needed"
    with pytest.raises(ValueError, match="strop.affine_matrix: " + text):
        strop.affine_matrix(two, (0, 0), three, 0, 8, 9)
    with pytest.raises(ValueError, match="zy has 3 samples and tx 2"):
        strop.keras_matrix(0, two, 0, 0, 1, three, 8, 9)
    with pytest.raises(TypeError, match="strop.keras_matrix: legacy is a int; a bool is needed"):
        strop.keras_matrix(*K, legacy=1)
    meta = torch.ones(2, device="meta")
    with pytest.raises(ValueError, match="scale is on meta and angle on cpu; one device is needed"):
        strop.affine_matrix(two, (0, 0), meta, 0, 8, 9)
    assert strop.affine_matrix(meta, (0, 0), 1, 0, 8, 9).device.type == "meta"
