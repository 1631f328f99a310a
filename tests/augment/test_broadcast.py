"""One rule for matrices and sizes in all functions: one for each sample or one for all, float32 or float64."""

import re

import numpy as np
import pytest
import torch
from torch.library import opcheck

import strop
from augment.problems import (
    FILL_MODES,
    augment,
    expected,
    expected_gradient,
    expected_masks,
    gradient_of,
    images,
    matrices,
    peculiar_matrices,
    same,
    warp,
)

U8, F32, F64 = torch.uint8, torch.float32, torch.float64
SIZE, TO = (9, 13), (11, 6)


def wide_matrices(count, seed=0):
    """Of numbers that float32 does not hold."""
    return matrices(count, SIZE, TO, seed).double() * (1 + 1e-9)


def views(maps):
    """The same matrices, otherwise in memory."""
    yield maps
    yield maps.mT.contiguous().mT
    spread = torch.zeros(2 * len(maps), 3, 6, dtype=maps.dtype)
    spread[::2, 1:, ::2] = maps
    yield spread[::2, 1:, ::2]


class TestImagesAndMasks:
    @pytest.mark.parametrize("dtype", [U8, F32, F64], ids=str)
    def test_one_for_all(self, device, dtype):
        x = images((3, 3, *SIZE), dtype)
        for wide in (False, True):
            one = wide_matrices(1) if wide else wide_matrices(1).float()
            each = one.float().expand(3, 2, 3).contiguous()
            for mode in FILL_MODES:
                options = {"size": TO, "fill_mode": mode, "fill": 7}
                wanted = expected(x, each, **options)
                same(augment(device, x, one, **options), wanted, (mode, wide))
                same(expected(x, one, **options), wanted, (mode, wide))
            masks = (x[:, 0] * 9).nan_to_num(0, 1).to(torch.int16)
            wanted = expected_masks(masks, each, size=TO, fill=3)
            same(expected_masks(masks, one, size=TO, fill=3), wanted)
            same(warp(device, masks, one, size=TO, fill=3), wanted)

    @pytest.mark.parametrize("dtype", [U8, F32], ids=str)
    def test_float64_is_rounded(self, device, dtype):
        x = images((4, 3, *SIZE), dtype)
        maps = wide_matrices(4)
        assert not torch.equal(maps, maps.float().double())
        wanted = expected(x, maps.float(), size=TO, fill=7)
        for view in views(maps):
            same(augment(device, x, view, size=TO, fill=7), wanted)
            masks = (x[:, 0] * 9).nan_to_num(0, 1).to(torch.int32)
            found = warp(device, masks, view, size=TO, fill=3)
            same(found, expected_masks(masks, maps.float(), size=TO, fill=3))

    def test_peculiar_matrices(self, device):
        maps = peculiar_matrices(SIZE, TO)
        x = images((len(maps), 1, *SIZE), U8)
        wanted = expected(x, maps, size=TO, fill=9)
        same(augment(device, x, maps.double(), size=TO, fill=9), wanted)
        beyond = torch.tensor([[[1e300, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, -1e39]]], dtype=F64)
        found = augment(device, x[:2], beyond, size=TO, fill=9, dtype=U8)
        assert (found == 9).all()

    def test_gradient(self, device):
        x = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))
        dy = torch.rand(3, 3, *TO, generator=torch.Generator().manual_seed(2))
        for mode in FILL_MODES:
            options = {"size": TO, "fill_mode": mode}
            for one in (wide_matrices(1), wide_matrices(1).float()):
                each = one.float().expand(3, 2, 3).contiguous()
                wanted = expected_gradient(dy, x, each, **options)
                same(gradient_of(device, dy, x, one, **options), wanted, mode)
                same(expected_gradient(dy, x, one, **options), wanted, mode)

    def test_one_image_and_none(self):
        x = images((1, 3, *SIZE))
        same(strop.augment_images(x, wide_matrices(1)), expected(x, wide_matrices(1).float()))
        assert strop.augment_images(x[:0], wide_matrices(1), size=4).shape == (0, 3, 4, 4)
        assert strop.warp_masks(x[:0], wide_matrices(1)).shape == (0, 3, *SIZE)

    def test_out_may_not_overlap_the_one(self):
        flat = torch.zeros(200)
        out, one = flat[:120].view(2, 3, 4, 5), flat[60:66].view(1, 2, 3)
        with pytest.raises(ValueError, match="out overlaps matrices"):
            strop.augment_images(images((2, 3, 4, 5)), one, out=out)
        with pytest.raises(ValueError, match="out overlaps matrices"):
            strop.warp_masks(torch.zeros(2, 3, 4, 5), one, out=out)
        apart = torch.zeros(2, 3, 4, 5)
        strop.augment_images(images((2, 3, 4, 5)), wide_matrices(1), out=apart)
        same(apart, expected(images((2, 3, 4, 5)), wide_matrices(1).float().expand(2, 2, 3)))


class TestTorch:
    def given(self):
        return images((3, 3, *SIZE), F32).nan_to_num(0, 1), wide_matrices(1)

    def test_opcheck(self):
        x, one = self.given()
        ops = torch.ops.strop
        for leaf in (x, x.clone().requires_grad_()):
            for maps in (one, one.float(), wide_matrices(3)):
                opcheck(ops.augment_images.default, (leaf, maps), {"size": list(TO)})
        opcheck(ops.warp_masks.default, (x, one), {"size": list(TO)})
        options = {"size": list(SIZE)}
        opcheck(ops._augment_gradient.default, (torch.rand(3, 3, *TO), one, None), options)

    def test_compile(self):
        def work(x, maps):
            y = strop.augment_images(x, maps, size=TO, std=0.5)
            return y, strop.warp_masks(x.detach() > 0.5, maps, size=TO)

        compiled = torch.compile(work, backend="aot_eager", fullgraph=True, dynamic=True)
        for count in (3, 4):
            x = images((count, 3, *SIZE), F32).nan_to_num(0, 1)
            for maps in (wide_matrices(1), wide_matrices(count)):
                for found, wanted in zip(compiled(x, maps), work(x, maps), strict=True):
                    assert torch.equal(found, wanted)

    @pytest.mark.parametrize("many_images", [False, True])
    @pytest.mark.parametrize("many_matrices", [False, True])
    def test_vmap(self, many_images, many_matrices):
        if not (many_images or many_matrices):
            return
        x = images((4, 3, 3, *SIZE), F32).nan_to_num(0, 1) if many_images else self.given()[0]
        for count in (1, 3):
            maps = torch.stack([wide_matrices(count, seed) for seed in range(4)])
            maps = maps if many_matrices else maps[0]
            dims = (0 if many_images else None, 0 if many_matrices else None)
            for function in (
                lambda x, m: strop.augment_images(x, m, size=TO, fill=3),
                lambda x, m: strop.warp_masks(x, m, size=TO, fill=3),
            ):
                found = torch.func.vmap(function, dims)(x, maps)
                for i in range(4):
                    one = function(x[i] if many_images else x, maps[i] if many_matrices else maps)
                    assert torch.equal(found[i], one)
        gradient = torch.func.grad(lambda x, m: strop.augment_images(x, m, size=TO).sum())
        found = torch.func.vmap(gradient, dims)(x, maps)
        assert torch.equal(
            found[0], gradient(x[0] if many_images else x, maps[0] if many_matrices else maps)
        )

    def test_gradcheck(self):
        x = torch.rand(2, 1, 4, 5, dtype=F64, requires_grad=True)
        one = wide_matrices(1)
        warp = lambda x: strop.augment_images(x, one, size=3, dtype=F64)  # noqa: E731
        assert torch.autograd.gradcheck(warp, x)
        assert torch.autograd.gradgradcheck(warp, x)


def test_boxes_and_points_take_the_same():
    one = wide_matrices(1)
    boxes, points = torch.rand(3, 4, 4) * 9, torch.rand(3, 4, 2) * 9
    boxes[..., 2:] += boxes[..., :2]
    each = one.expand(3, 2, 3).contiguous()
    for maps in (one, one.float()):
        whole = each.to(maps.dtype)
        assert torch.equal(strop.warp_points(points, maps), strop.warp_points(points, whole))
        found = strop.warp_boxes(boxes, maps, size=TO)
        assert torch.equal(found, strop.warp_boxes(boxes, whole, size=TO))


def calls(maps, size):
    x = torch.zeros(2, 3, *SIZE)
    boxes = torch.tensor([[[1.0, 1, 5, 5]]]).expand(2, 1, 4)
    return {
        "augment_images": lambda: strop.augment_images(x, maps, size=size).shape[2:],
        "warp_masks": lambda: strop.warp_masks(x, maps, size=size).shape[2:],
        "warp_boxes": lambda: strop.warp_boxes(boxes * 9, torch.eye(2, 3)[None], size=size)[
            0, 0, 2:
        ],
    }


FUNCTIONS = ["augment_images", "warp_masks", "warp_boxes"]


@pytest.mark.parametrize("name", FUNCTIONS)
class TestSizes:
    @pytest.mark.parametrize(
        ("size", "wanted"),
        [
            (7, (7, 7)),
            (np.int64(7), (7, 7)),
            (np.uint8(7), (7, 7)),
            ((5, 7), (5, 7)),
            ([5, 7], (5, 7)),
            ((np.int32(5), 7), (5, 7)),
            (torch.Size([5, 7]), (5, 7)),
            (np.array([5, 7]).tolist(), (5, 7)),
        ],
        ids=str,
    )
    def test_taken(self, name, size, wanted):
        found = calls(wide_matrices(2), size)[name]()
        assert tuple(found) == (wanted if name != "warp_boxes" else wanted[::-1])

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (True, "size is a bool; an int or a pair (rows, columns) is needed"),
            (np.bool_(True), "size is a bool"),
            (7.0, "size is a float; an int or a pair (rows, columns) is needed"),
            (np.float32(7), "size is a float32; an int or a pair (rows, columns) is needed"),
            ("7", "size is a str; an int or a pair (rows, columns) is needed"),
            ((5, True), "an entry of size is a bool; an int is needed"),
            ((5, np.float64(7)), "an entry of size is a float64; an int is needed"),
            ((5, None), "an entry of size is a NoneType; an int is needed"),
        ],
        ids=str,
    )
    def test_refused(self, name, size, text):
        with pytest.raises(TypeError, match=f"strop.{name}: " + re.escape(text)):
            calls(wide_matrices(2), size)[name]()

    @pytest.mark.parametrize("size", [(5,), (5, 6, 7), (-1, 5), -3, np.int64(-3)], ids=str)
    def test_values_refused(self, name, size):
        with pytest.raises(ValueError, match=f"strop.{name}: size "):
            calls(wide_matrices(2), size)[name]()


def test_sizes_of_numpy_in_compiled_code():
    def work(x, boxes, maps, rows):
        size = (rows, x.shape[2])
        return strop.augment_images(x, maps, size=size), strop.warp_boxes(boxes, maps, size=rows)

    compiled = torch.compile(work, backend="aot_eager", fullgraph=True)
    given = torch.rand(1, 3, *SIZE), torch.tensor([[[1.0, 1, 5, 5]]]), wide_matrices(1)
    for rows in (np.int64(5), np.int32(6)):
        for found, wanted in zip(compiled(*given, rows), work(*given, rows), strict=True):
            torch.testing.assert_close(found, wanted)


def test_heights_and_widths():
    wanted = strop.affine_matrix(10, (0, 0), 1, 0, 8, 9)
    for eight in (np.int64(8), np.uint16(8)):
        assert torch.equal(strop.affine_matrix(10, (0, 0), 1, 0, eight, np.int32(9)), wanted)
        found = strop.keras_matrix(10, 0, 0, 0, 1, 1, eight, np.int8(9))
        assert torch.equal(found, strop.keras_matrix(10, 0, 0, 0, 1, 1, 8, 9))
    for height in (np.bool_(True), np.float32(8), True):
        with pytest.raises(TypeError, match="height is a .*; an int is needed"):
            strop.affine_matrix(10, (0, 0), 1, 0, height, 9)


@pytest.mark.parametrize("name", FUNCTIONS[:2])
def test_what_matrices_may_not_be(name):
    x = torch.zeros(2, 3, *SIZE)
    what = "images" if name == "augment_images" else "masks"
    for maps, kind, text in (
        (wide_matrices(3), ValueError, f"[2, 2, 3] is needed for 2 {what}, or [1, 2, 3] for all"),
        (wide_matrices(2)[0], ValueError, "matrices have shape [2, 3]; [2, 2, 3] is needed"),
        (wide_matrices(2).mT, ValueError, "matrices have shape [2, 3, 2]; [2, 2, 3] is needed"),
        (wide_matrices(2).half(), TypeError, "dtype float16; float32 or float64 is needed"),
        (wide_matrices(2).long(), TypeError, "dtype int64; float32 or float64 is needed"),
    ):
        with pytest.raises(kind, match=f"strop.{name}: .*" + re.escape(text)):
            getattr(strop, name)(x, maps)


def test_on_a_gpu_graph():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    x, one = images((4, 3, *SIZE)).cuda(), wide_matrices(1).cuda()
    out, masks = torch.zeros(4, 3, *TO).cuda(), torch.zeros(4, 3, *TO, dtype=U8).cuda()

    def work():
        strop.augment_images(x, one, size=TO, out=out)
        strop.warp_masks(x, one, size=TO, out=masks)

    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    one.copy_(wide_matrices(1, seed=5))
    graph.replay()
    found = out.clone(), masks.clone()
    work()
    assert torch.equal(found[0], out)
    assert torch.equal(found[1], masks)
