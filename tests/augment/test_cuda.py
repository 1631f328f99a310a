"""Augmentation by the CUDA kernels: on the CPU what only concerns them, on a GPU what only it shows."""

import numpy as np
import pytest
import torch

import strop
from augment.problems import (
    FILL_MODES,
    FLOATING,
    expected,
    expected_gradient,
    expected_masks,
    images,
    matrices,
    peculiar_matrices,
    same,
)
from core.devices import _cuda_host, to_array, to_tensor
from strop import _C

U8, F32, F64 = torch.uint8, torch.float32, torch.float64
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CHANNELS_LAST = torch.channels_last

needs_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.cuda_host
@pytest.mark.skipif(_cuda_host is None, reason="strop._cuda_host is not built here")
class TestOnTheCpu:
    @pytest.fixture(autouse=True)
    def any_launch(self):
        yield
        _cuda_host.set_launch(0)

    # (multiprocessors and blocks on each: one block that does all, and more than there are tiles)
    @pytest.mark.parametrize("launch", [(1, 1), (1, 3), (50, 8)], ids=str)
    def test_any_grid_and_order(self, launch):
        size, to = (40, 70), (66, 35)
        turned = to_array(matrices(3, size, to))
        image, gradient = images((3, 3, *size), F32), images((3, 3, *to), F32)
        masks = torch.arange(3 * 40 * 70, dtype=torch.int32).view(3, *size)
        for seed in range(3):
            _cuda_host.set_launch(seed, *launch)
            for given, maps in ((image, turned), (images((3, 3, *size)), turned), (image, None)):
                options = {"size": to if maps is not None else size, "mean": [0.5]}
                found = _cuda_host.augment_images(to_array(given), maps, **options)
                wanted = _C.reference.augment_images(to_array(given), maps, **options)
                same(to_tensor(found), to_tensor(wanted))
            found = _cuda_host.augment_gradient(*map(to_array, (gradient, image)), turned, size=to)
            same(to_tensor(found), expected_gradient(gradient, image, to_tensor(turned), size=to))
            found = _cuda_host.warp_masks(to_array(masks), turned, to)
            same(to_tensor(found), expected_masks(masks, to_tensor(turned), to))

    @pytest.mark.parametrize("dtype", [U8, *FLOATING, F64], ids=str)
    def test_float64(self, dtype):
        size, to = (11, 14), (9, 17)
        maps = to_array(matrices(2, size, to))
        image = to_array(images((2, 3, *size), dtype).contiguous(memory_format=CHANNELS_LAST))
        for mode in FILL_MODES:
            for out in ("float64", "uint8", "bfloat16") if dtype == F64 else ("float64",):
                more = {"mean": [0.3], "std": [0.2, 0.3, 3]} if out != "uint8" else {}
                options = {"size": to, "fill_mode": mode, "fill": [7.0], "dtype": out, **more}
                found = _cuda_host.augment_images(image, maps, **options)
                same(
                    to_tensor(found), to_tensor(_C.reference.augment_images(image, maps, **options))
                )

    @pytest.mark.parametrize("out", ["float32", "float16", "uint8"])
    @pytest.mark.parametrize("dtype", [U8, *FLOATING], ids=str)
    def test_images_of_2_31_elements(self, dtype, out):
        # A row alone, with a step that 32 bits do not hold.
        row = to_array(images((2, 3, 1, 37), dtype))
        item = row.itemsize
        far = np.lib.stride_tricks.as_strided(
            row, row.shape, (111 * item, 37 * item, 2**31 * item, item)
        )
        maps = to_array(matrices(2, (1, 37), (5, 33)))
        for mode in ("constant", "grid_wrap"):
            options = {"size": (5, 33), "fill_mode": mode, "fill": [3.0], "dtype": out}
            found = _cuda_host.augment_images(far, maps, **options)
            same(to_tensor(found), to_tensor(_C.reference.augment_images(row, maps, **options)))

    def test_gradient_of_many_rectangles(self):
        # Tall, wide, far larger and far smaller than what a warp has in its room.
        for size, to in (
            ((70, 5), (9, 90)),
            ((3, 100), (60, 3)),
            ((66, 66), (2, 2)),
            ((2, 2), (66, 66)),
        ):
            for mode in ("constant", "nearest", "reflect"):
                image, maps = torch.zeros(2, 1, *size), matrices(2, size, to)
                gradient = torch.randn(2, 1, *to)
                options = {"size": to, "fill_mode": mode}
                arrays = map(to_array, (gradient, image, maps))
                found = to_tensor(_cuda_host.augment_gradient(*arrays, **options))
                same(found, expected_gradient(gradient, image, maps, **options), (size, to, mode))

    def test_gradient_of_a_side_that_wraps_around_itself(self):
        # Two taps of a pixel are the same one, and their order counts.
        gradient = torch.randn(1, 3, 4, 5) * torch.logspace(-3, 3, 5)
        for size in ((1, 1), (1, 6), (6, 1)):
            image, maps = torch.zeros(1, 3, *size), matrices(1, size, (4, 5))
            options = {"size": (4, 5), "fill_mode": "grid_wrap"}
            arrays = map(to_array, (gradient, image, maps))
            found = to_tensor(_cuda_host.augment_gradient(*arrays, **options))
            same(found, expected_gradient(gradient, image, maps, **options), size)

    def test_a_large_batch_of_small_images(self):
        image, maps = images((300, 1, 2, 3)), matrices(300, (2, 3), (3, 2))
        found = _cuda_host.augment_images(to_array(image), to_array(maps), size=(3, 2))
        same(to_tensor(found), expected(image, maps, size=(3, 2)))


def there(tensors):
    return [None if t is None else t.cuda() for t in tensors]


def every_kernel(channels, dtype, out):
    """On a GPU as by the oracle: with a warp, without one, masks and the gradient."""
    size, to = (35, 67), (33, 70)
    image, maps = images((2, channels, *size), dtype), matrices(2, size, to)
    for more in ({}, {"memory_format": CHANNELS_LAST}):
        for where in ({"size": to}, {}):
            options = {"dtype": out, "fill": 3, **where, **more}
            given = (image, maps if where else None)
            same(strop.augment_images(*there(given), **options).cpu(), expected(*given, **options))
    masks = torch.randint(0, 99, (2, channels, *size)).to(torch.int32 if out == F32 else U8)
    found = strop.warp_masks(*there((masks, maps)), size=to, fill=1)
    same(found.cpu(), expected_masks(masks, maps, size=to, fill=1))
    if U8 in (dtype, out):
        return
    for mode in ("constant", "reflect"):
        leaf, gradient = image.cuda().requires_grad_(), images((2, channels, *to), out, 3)
        y = strop.augment_images(leaf, maps.cuda(), size=to, fill_mode=mode, dtype=out)
        (found,) = torch.autograd.grad(y, leaf, gradient.cuda())
        wanted = expected_gradient(gradient, image, maps, size=to, fill_mode=mode)
        same(found.cpu(), wanted)


class TestOnAGpu:
    pytestmark = needs_gpu

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_kernel(self, channels):
        # Short: it also runs under the toolkit's sanitizers, which take a hundred times as long.
        for dtype in (U8, *FLOATING, F64):
            for out in (F32, torch.bfloat16, U8) if dtype != F64 else (F64,):
                every_kernel(channels, dtype, out)

    @pytest.mark.parametrize("mode", FILL_MODES)
    def test_photograph_sized(self, mode):
        size, to = (256, 300), (224, 224)
        image, maps = images((64, 3, *size)), matrices(64, size, to)
        for memory_format in (torch.contiguous_format, CHANNELS_LAST):
            options = {"size": to, "fill_mode": mode, "memory_format": memory_format, **IMAGENET}
            given = image.contiguous(memory_format=memory_format)
            found = strop.augment_images(given.cuda(), maps.cuda(), **options)
            same(found.cpu(), strop.augment_images(given, maps, **options))

    @pytest.mark.parametrize("mode", FILL_MODES)
    def test_gradient_of_photograph_size(self, mode):
        size, to = (256, 300), (224, 224)
        image = torch.rand(8, 3, *size)
        maps, gradient = matrices(8, size, to), torch.randn(8, 3, *to)
        found = []
        for leaf in (image.cuda().requires_grad_(), image.requires_grad_()):
            y = strop.augment_images(leaf, maps.to(leaf.device), size=to, fill_mode=mode)
            found.append(torch.autograd.grad(y, leaf, gradient.to(leaf.device))[0].cpu())
        same(*found)

    def test_peculiar_matrices(self):
        size, to = (35, 44), (33, 50)
        maps = peculiar_matrices(size, to)
        image = images((len(maps), 3, *size), F32)
        for mode in FILL_MODES:
            options = {"size": to, "fill_mode": mode, "fill": 5}
            found = strop.augment_images(image.cuda(), maps.cuda(), **options)
            same(found.cpu(), expected(image, maps, **options), mode)

    def test_gradcheck(self):
        maps = matrices(2, (4, 5), (6, 5)).cuda()
        image = torch.rand(2, 3, 4, 5, dtype=F64, device="cuda", requires_grad=True)
        for mode in FILL_MODES:
            options = {"size": (6, 5), "fill_mode": mode, "std": 0.7, "dtype": F64}
            torch.autograd.gradcheck(lambda x: strop.augment_images(x, maps, **options), (image,))  # noqa: B023

    def test_graphs(self):
        # A replay takes the matrices, the mean and the gradient that are there by then.
        image, maps = torch.rand(4, 3, 60, 70).cuda(), matrices(4, (60, 70), (50, 60)).cuda()
        mean, out = torch.rand(3).cuda(), torch.zeros(4, 3, 50, 60).cuda()
        masks, labels = images((4, 60, 70)).cuda(), torch.zeros(4, 50, 60, dtype=U8).cuda()
        leaf, gradient = image.clone().requires_grad_(), torch.rand_like(out)

        def work():
            strop.augment_images(
                image, maps, size=(50, 60), mean=mean, std=[0.2, 0.3, 0.4], out=out
            )
            strop.warp_masks(masks, maps, size=(50, 60), out=labels)
            y = strop.augment_images(leaf, maps, size=(50, 60))
            return torch.autograd.grad(y, leaf, gradient)[0]

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            held = work()
        for seed in (5, 6):
            maps.copy_(matrices(4, (60, 70), (50, 60), seed))
            mean.uniform_()
            gradient.normal_()
            graph.replay()
            found = out.clone(), labels.clone(), held.clone()
            for a, b in zip(found, (out, labels, work()), strict=True):
                same(a.cpu(), b.cpu())

    def test_nothing_is_waited_for(self):
        image, maps = torch.rand(4, 3, 60, 70).cuda(), matrices(4, (60, 70), (60, 70)).cuda()
        mean, leaf = torch.rand(3).cuda(), image.clone().requires_grad_()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            strop.augment_images(image, maps, mean=mean, std=IMAGENET["std"])
            strop.augment_images(image, **IMAGENET)
            strop.warp_masks(image, maps)
            strop.augment_images(leaf, maps, std=mean).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode(before)
        assert leaf.grad.isfinite().all()

    def test_streams(self):
        image, maps = images((8, 3, 256, 256)).cuda(), matrices(8, (256, 256), (256, 256)).cuda()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            y = strop.augment_images(image, maps, **IMAGENET)
        stream.synchronize()
        same(y.cpu(), strop.augment_images(image.cpu(), maps.cpu(), **IMAGENET))

    def test_an_image_of_2_31_elements(self):
        side = 2**15
        free, _ = torch.cuda.mem_get_info()
        if free < 5 << 30:
            pytest.skip(f"needs 5 GiB of GPU memory, {free >> 30} are free")
        image = torch.zeros(1, 3, side, side, dtype=U8, device="cuda", memory_format=CHANNELS_LAST)
        image[0, :, -1, -2:] = torch.tensor([[1, 5], [2, 7], [3, 8]], device="cuda", dtype=U8)
        corner = torch.tensor([[[1.0, 0, side - 2], [0, 1, side - 1]]], device="cuda")
        found = strop.augment_images(image, corner, size=(1, 3), dtype=U8, fill=9)
        assert found[0, :, 0].tolist() == [[1, 5, 9], [2, 7, 9], [3, 8, 9]]
