"""augment_images and warp_masks as torch ops: opcheck, compile, export, vmap, modes, workers."""

import threading

import pytest
import torch
from torch.library import opcheck

import strop
from augment.problems import expected, images, matrices, same
from strop._augment import ops

CHANNELS_LAST = torch.channels_last
U8 = torch.uint8


def squared(x, maps):
    """Both ops, as a model would call them."""
    y = strop.augment_images(x, maps, size=(6, 7), mean=[0.1, 0.2, 0.3], std=0.5, fill=0.25)
    masks = strop.warp_masks((x.detach() > 0.5), maps, size=(6, 7))
    return y * y * masks


class TestOpcheck:
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("dtype", [U8, torch.float32, torch.bfloat16, torch.float64], ids=str)
    def test_augment_images(self, dtype, channels_last):
        op, maps = torch.ops.strop.augment_images, matrices(2, (5, 6), (4, 7))
        options = {"size": [4, 7], "fill_mode": "reflect", "channels_last": channels_last}
        for channels in (1, 3):
            image = images((2, channels, 5, 6), dtype).nan_to_num(0, 1)
            if channels_last:
                image = image.contiguous(memory_format=CHANNELS_LAST)
            for gradient in {False, dtype.is_floating_point}:
                leaf = image.clone().requires_grad_(gradient)
                opcheck(op.default, (leaf,), {"dtype": torch.bfloat16})
                opcheck(op.default, (leaf, maps), {"mean": [0.5], "std": [2.0], **options})
                mean, std = torch.rand(channels), torch.rand(()) + 1
                opcheck(op.default, (leaf, maps, mean, std), options)
        opcheck(op.default, (image, maps), {"dtype": U8, **options})
        options.pop("channels_last")
        opcheck(op.out, (image, maps), {"out": torch.zeros(2, 3, 4, 7), **options})

    def test_gradient(self):
        gradient = torch.rand(2, 3, 4, 7)
        for leaf in (gradient, gradient.clone().requires_grad_()):
            for channels_last in (False, True):
                options = {"size": [5, 6], "std": [0.5, 1, 2], "channels_last": channels_last}
                opcheck(ops.augment_gradient, (leaf, matrices(2, (5, 6), (4, 7)), None), options)
                opcheck(ops.augment_gradient, (leaf, None, torch.ones(3)), options)

    def test_warp_masks(self):
        op, maps = torch.ops.strop.warp_masks, matrices(2, (5, 6), (4, 7))
        for dtype in (torch.bool, torch.int64, torch.uint16, torch.float16):
            for shape in ((2, 5, 6), (2, 7, 5, 6)):
                masks = torch.randint(0, 9, shape).to(dtype)
                opcheck(op.default, (masks, maps))
                opcheck(op.default, (masks, None), {"size": [4, 7], "fill": 1.0})
                out = torch.zeros(*shape[:-2], 4, 7, dtype=dtype)
                opcheck(op.out, (masks, maps), {"size": [4, 7], "out": out})


class TestCompile:
    @pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
    def test_dynamic_shapes_and_backward(self, backend):
        compiled = torch.compile(squared, fullgraph=True, dynamic=True, backend=backend)
        for shape in ((2, 3, 5, 6), (3, 3, 8, 5), (5, 3, 11, 9)):
            maps, results = matrices(shape[0], shape[2:], (6, 7)), []
            for function in (squared, compiled):
                leaf = torch.rand(
                    shape, generator=torch.Generator().manual_seed(1)
                ).requires_grad_()
                y = function(leaf, maps)
                results.append([y.detach(), *torch.autograd.grad(y.sum(), leaf)])
            for a, b in zip(*results, strict=True):
                torch.testing.assert_close(a, b)

    def test_sizes_and_memory_formats(self):
        def function(x, rows):
            y = strop.augment_images(x, size=(rows, 2 * rows), memory_format=CHANNELS_LAST)
            return y + 1, strop.augment_images(x, size=rows, dtype=U8)

        compiled = torch.compile(function, fullgraph=True, dynamic=True)
        for rows in (4, 9, 13):
            x = images((2, 3, 7, 8))
            for a, b in zip(compiled(x, rows), function(x, rows), strict=True):
                assert torch.equal(a, b)
                assert a.stride() == b.stride()

    def test_mutation(self):
        def function(x, maps, out, labels):
            strop.augment_images(x, maps, out=out)
            strop.warp_masks(x[:, 0], maps, out=labels)
            return out * 2, labels + 1

        compiled = torch.compile(function, fullgraph=True)
        x, maps = images((2, 3, 7, 8)), matrices(2, (7, 8), (7, 8))
        results = [
            f(x, maps, torch.zeros(2, 3, 7, 8), torch.zeros(2, 7, 8, dtype=U8))
            for f in (compiled, function)
        ]
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)

    def test_mean_in_a_tensor(self):
        function = lambda x, mean: strop.augment_images(x, mean=mean, std=[0.5])  # noqa: E731
        x, mean = images((2, 3, 7, 8)), torch.rand(3)
        assert torch.equal(torch.compile(function, fullgraph=True)(x, mean), function(x, mean))


class Pass(torch.nn.Module):
    def forward(self, x, maps):
        y = strop.augment_images(x, maps, size=(6, 7), mean=0.5, std=0.25, fill_mode="mirror")
        return y, strop.warp_masks(x, maps, size=(6, 7))


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_dynamic_batch(strict):
    batch = torch.export.Dim("batch", min=2)
    given = images((4, 3, 5, 6)), matrices(4, (5, 6), (6, 7))
    dynamic = {"x": {0: batch}, "maps": {0: batch}}
    program = torch.export.export(Pass(), given, dynamic_shapes=dynamic, strict=strict)
    given = images((7, 3, 5, 6)), matrices(7, (5, 6), (6, 7))
    for a, b in zip(program.module()(*given), Pass()(*given), strict=True):
        assert torch.equal(a, b)


class TestVmap:
    def test_images_and_matrices(self):
        x, maps = images((3, 2, 3, 5, 6)), matrices(6, (5, 6), (4, 7)).view(3, 2, 2, 3)

        def function(x, maps):
            return strop.augment_images(x, maps, size=(4, 7), mean=[0.1, 0.2, 0.3])

        for dims, given in (
            ((0, 0), (x, maps)),
            ((0, None), (x, maps[0])),
            ((None, 0), (x[0], maps)),
            ((2, 1), (x.movedim(0, 2), maps.movedim(0, 1))),
        ):
            found = torch.func.vmap(function, dims)(*given)
            for i in range(3):
                one = [t if d is None else t.select(d, i) for t, d in zip(given, dims)]  # noqa: B905
                assert torch.equal(found[i], function(*one))
        whole = torch.func.vmap(lambda t: strop.augment_images(t, size=4))(x)
        assert torch.equal(whole[1], strop.augment_images(x[1], size=4))

    def test_means(self):
        x, mean = images((3, 2, 3, 5, 6)), torch.rand(3, 3)
        function = lambda x, mean: strop.augment_images(x, mean=mean, std=2)  # noqa: E731
        found = torch.func.vmap(function)(x, mean)
        assert torch.equal(found[2], function(x[2], mean[2]))
        found = torch.func.vmap(function, (None, 1))(x[0], mean.t())
        assert torch.equal(found[1], function(x[0], mean[1]))

    def test_masks(self):
        masks, maps = torch.randint(0, 9, (3, 2, 5, 6)), matrices(2, (5, 6), (5, 6))
        found = torch.func.vmap(strop.warp_masks, (0, None))(masks, maps)
        assert torch.equal(found[1], strop.warp_masks(masks[1], maps))
        found = torch.func.vmap(lambda m: strop.warp_masks(m, None, size=(2, 3)), 1)(masks)
        assert torch.equal(found[1], strop.warp_masks(masks[:, 1], None, size=(2, 3)))

    def test_nothing(self):
        found = torch.func.vmap(lambda t: strop.augment_images(t, size=4))(
            torch.zeros(3, 0, 1, 5, 6)
        )
        assert found.shape == (3, 0, 1, 4, 4)


class TestModes:
    def test_inference_and_autocast(self):
        x, maps = images((2, 3, 5, 6)), matrices(2, (5, 6), (5, 6))
        wanted = strop.augment_images(x, maps)
        with torch.inference_mode():
            assert torch.equal(strop.augment_images(x, maps), wanted)
            out = torch.zeros(2, 3, 5, 6)
            strop.augment_images(x, maps, out=out)
            assert torch.equal(out, wanted)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert strop.augment_images(x, maps).dtype == torch.float32
            assert strop.augment_images(torch.rand(1, 1, 2, 2)).dtype == torch.float32
        with torch.device("meta"):
            assert torch.equal(strop.augment_images(x, maps), wanted)

    def test_meta(self):
        x = torch.empty(2, 3, 5, 6, device="meta")
        found = strop.augment_images(x, size=(4, 7), memory_format=CHANNELS_LAST)
        assert found.shape == (2, 3, 4, 7)
        assert found.is_contiguous(memory_format=CHANNELS_LAST)

    def test_versions_are_counted(self):
        x = images((1, 3, 4, 5))
        out, labels = torch.zeros(1, 3, 4, 5), torch.zeros(1, 4, 5, dtype=U8)
        before = out._version, labels._version
        strop.augment_images(x, out=out)
        strop.warp_masks(x[:, 0], None, out=labels)
        assert (out._version, labels._version) == (before[0] + 1, before[1] + 1)

    def test_memory_formats(self):
        x = images((2, 3, 5, 6))
        for given in (x, x.contiguous(memory_format=CHANNELS_LAST)):
            assert strop.augment_images(given).is_contiguous()
            found = strop.augment_images(given, memory_format=CHANNELS_LAST)
            assert found.is_contiguous(memory_format=CHANNELS_LAST)
        out = torch.zeros(2, 3, 5, 6)  # whose layout is its own
        assert strop.augment_images(x, memory_format=CHANNELS_LAST, out=out) is out
        same(out, expected(x))


class Warped(torch.utils.data.Dataset):
    """Warps in a worker."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return strop.augment_images(images((1, 3, 40, 50), seed=i), matrices(1, *[(40, 50)] * 2, i))


def test_forked_workers():
    strop.augment_images(images((4, 3, 200, 200)))  # threads that a child does not have
    whole = list(
        torch.utils.data.DataLoader(Warped(), num_workers=2, multiprocessing_context="fork")
    )
    assert len(whole) == 8
    for i, found in enumerate(whole):
        assert torch.equal(found[0], Warped()[i])


def test_threads():
    x, maps = images((8, 3, 60, 70)), matrices(8, (60, 70), (60, 70))
    wanted, results = strop.augment_images(x, maps), [None] * 6

    def work(i):
        for _ in range(5):
            results[i] = strop.augment_images(x, maps)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(torch.equal(found, wanted) for found in results)


def test_on_a_gpu_graph():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    x, maps = images((4, 3, 60, 70)).cuda(), matrices(4, (60, 70), (50, 60)).cuda()
    mean, out = torch.rand(3).cuda(), torch.zeros(4, 3, 50, 60).cuda()

    def work():
        strop.augment_images(x, maps, size=(50, 60), mean=mean, std=[0.2, 0.3, 0.4], out=out)

    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    maps.copy_(matrices(4, (60, 70), (50, 60), seed=5))
    graph.replay()
    found = out.clone()
    work()
    assert torch.equal(found, out)
