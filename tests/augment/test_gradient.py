"""Gradients of augment_images: the adjoint warp to the bit, gradcheck, torch's transforms."""

import math

import pytest
import torch

import strop
from augment.problems import (
    FILL_MODES,
    FLOATING,
    LAYOUTS,
    expected_gradient,
    gradient_of,
    images,
    laid_out,
    matrices,
    peculiar_matrices,
    same,
)
from core.devices import Device

INTERPOLATIONS = ["bilinear", "nearest"]
F32, F64 = torch.float32, torch.float64
CPU = Device("cpu")


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fill_mode", FILL_MODES)
class TestAdjoint:
    def test_dtypes_and_layouts(self, device, fill_mode, interpolation):
        options = {"fill_mode": fill_mode, "interpolation": interpolation}
        size, to = (13, 22), (17, 35)
        maps = matrices(2, size, to, seed=2)
        for number, (dtype, out) in enumerate((a, b) for a in FLOATING for b in FLOATING):
            channels = (3, 1, 4)[number % 3]
            gradient = images((2, channels, *to), out, number, LAYOUTS[number % 5])
            image = torch.zeros(2, channels, *size, dtype=dtype)
            more = {"size": to, "std": [0.3, -2, 1, 4][:channels] if number % 2 else 1}
            found = gradient_of(device, gradient, image, maps, **more, **options)
            wanted = expected_gradient(gradient, image, maps, **more, **options)
            same(found, wanted, (dtype, out))

    def test_peculiar_matrices(self, device, fill_mode, interpolation):
        options = {"fill_mode": fill_mode, "interpolation": interpolation}
        size, to = (9, 12), (8, 20)
        maps = peculiar_matrices(size, to)
        gradient = torch.rand(len(maps), 1, *to, generator=torch.Generator().manual_seed(0))
        image = torch.zeros(len(maps), 1, *size)
        found = gradient_of(device, gradient, image, maps, size=to, **options)
        same(found, expected_gradient(gradient, image, maps, size=to, **options))

    def test_gradcheck(self, fill_mode, interpolation):
        # It is affine, so that a finite difference is exact; of every tap there is.
        options = {"fill_mode": fill_mode, "interpolation": interpolation, "dtype": F64}
        for channels, size, to in ((1, (4, 5), (6, 5)), (3, (3, 2), (2, 4))):
            maps = matrices(2, size, to, seed=5)
            image = torch.rand(2, channels, *size, dtype=F64, requires_grad=True)

            def function(x, maps=maps, to=to):
                return strop.augment_images(x, maps, size=to, fill=3, mean=0.5, std=0.7, **options)

            torch.autograd.gradcheck(function, (image,), check_forward_ad=True)
            torch.autograd.gradgradcheck(function, (image,))


def test_large(device):
    size = device.size((301, 420), (30, 42))
    for dtype in FLOATING:
        maps = matrices(2, size, size, seed=9)
        gradient = torch.randn(2, 3, *size).to(dtype)
        image = torch.zeros(2, 3, *size, dtype=dtype)
        found = gradient_of(device, gradient, image, maps)
        same(found, expected_gradient(gradient, image, maps))


def test_any_number_of_threads():
    before = torch.get_num_threads()
    maps = matrices(3, (60, 70), (60, 70))
    gradient, results = torch.randn(3, 3, 60, 70), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(gradient_of(CPU, gradient, torch.zeros(3, 3, 60, 70), maps))
    torch.set_num_threads(before)
    same(results[1], results[0])
    same(results[2], results[0])


class TestMeaning:
    def test_without_a_warp(self):
        gradient = torch.randn(2, 3, 4, 5)
        image = torch.rand(2, 3, 4, 5, requires_grad=True)
        y = strop.augment_images(image, mean=0.5, std=[0.5, 0.25, 2])
        (found,) = torch.autograd.grad(y, image, gradient)
        assert torch.equal(found, gradient * torch.tensor([2.0, 4.0, 0.5]).view(3, 1, 1))

    def test_a_resize(self):
        image = torch.rand(2, 3, 4, 5, dtype=F64, requires_grad=True)
        for size in ((7, 3), (2, 9)):
            resize = lambda x, size=size: strop.augment_images(x, size=size, dtype=F64)  # noqa: E731
            torch.autograd.gradcheck(resize, (image,))
            torch.autograd.gradgradcheck(resize, (image,))

    def test_a_flip(self):
        image = torch.rand(1, 1, 4, 5, requires_grad=True)
        flip = torch.tensor([[[-1.0, 0, 4], [0, 1, 0]]])
        gradient = torch.randn(1, 1, 4, 5)
        (found,) = torch.autograd.grad(strop.augment_images(image, flip), image, gradient)
        assert torch.equal(found, gradient.flip(3))

    def test_std_in_a_tensor(self):
        image = torch.rand(1, 3, 4, 5, requires_grad=True)
        std = [0.5, 0.25, 2.0]
        maps, gradient = matrices(1, (4, 5), (4, 5)), torch.randn(1, 3, 4, 5)
        found = [
            torch.autograd.grad(strop.augment_images(image, maps, std=s), image, gradient)[0]
            for s in (std, torch.tensor(std))
        ]
        assert torch.equal(*found)

    def test_its_layout_is_the_images(self):
        for layout in ("contiguous", "channels_last"):
            image = laid_out(torch.rand(2, 3, 4, 5), layout).requires_grad_()
            (found,) = torch.autograd.grad(strop.augment_images(image).sum(), image)
            assert found.stride() == image.stride()

    def test_where_there_is_none(self):
        floats = torch.rand(1, 3, 4, 5, requires_grad=True)
        assert not strop.augment_images(floats, dtype=torch.uint8).requires_grad
        assert not strop.augment_images(images((1, 3, 4, 5))).requires_grad
        with torch.no_grad():
            assert not strop.augment_images(floats).requires_grad

    def test_matrices_are_saved(self):
        image, maps = torch.rand(1, 1, 4, 5, requires_grad=True), torch.eye(2, 3)[None].clone()
        y = strop.augment_images(image, maps)
        maps[0, 0, 2] = 3
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    @pytest.mark.parametrize("name", ["matrices", "mean", "std"])
    def test_parameters_have_none(self, name):
        tensors = {"matrices": torch.eye(2, 3)[None].clone(), "mean": torch.ones(3)}
        tensors["std"] = torch.ones(3)
        tensors[name].requires_grad_()
        image = torch.rand(1, 3, 4, 5)
        text = f"strop.augment_images: {name} would need a gradient, and there is none of {name}"
        with pytest.raises(RuntimeError, match=text):
            strop.augment_images(image, **tensors)
        with torch.no_grad():
            strop.augment_images(image, **tensors)

    def test_masks_have_none(self):
        masks, maps = torch.rand(1, 4, 5), torch.eye(2, 3)[None].clone()
        with pytest.raises(RuntimeError, match="strop.warp_masks: masks would need a gradient"):
            strop.warp_masks(masks.clone().requires_grad_(), maps)
        with pytest.raises(RuntimeError, match="strop.warp_masks: matrices would need a gradient"):
            strop.warp_masks(masks, maps.requires_grad_())

    def test_out_has_none(self):
        image = torch.rand(1, 1, 4, 5, requires_grad=True)
        text = "strop.augment_images: a tensor requires a gradient"
        with pytest.raises(RuntimeError, match=text):
            strop.augment_images(image, out=torch.zeros(1, 1, 4, 5))
        with pytest.raises(RuntimeError, match=text):
            strop.augment_images(image.detach(), out=torch.zeros(1, 1, 4, 5).requires_grad_())
        out = torch.zeros(1, 1, 4, 5)
        with torch.no_grad():
            strop.augment_images(image, out=out)
        assert torch.equal(out, image)


def squares(x, maps):
    return (strop.augment_images(x, maps, size=(5, 4), mean=0.3, std=0.5, fill=0.2) ** 2).sum()


class TestTransforms:
    def problem(self):
        return torch.rand(2, 3, 4, 5, dtype=F64).float(), matrices(2, (4, 5), (5, 4), seed=3)

    def test_grad(self):
        image, maps = self.problem()
        leaf = image.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(squares(leaf, maps), leaf)
        torch.testing.assert_close(torch.func.grad(squares)(image, maps), wanted)
        _, backward = torch.func.vjp(lambda x: squares(x, maps), image)
        torch.testing.assert_close(backward(torch.tensor(1.0))[0], wanted)

    def test_jvp(self):
        image, maps = self.problem()
        tangent = torch.randn_like(image)

        def function(x):
            return strop.augment_images(x, maps, mean=0.3, std=0.5, fill=0.2)

        y, dy = torch.func.jvp(function, (image,), (tangent,))
        same(y, function(image))
        same(dy, strop.augment_images(tangent, maps, std=0.5))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(image, tangent)
            moved = torch.autograd.forward_ad.unpack_dual(function(dual)).tangent
        same(moved, dy)

    def test_hessian_vector_products(self):
        image, maps = self.problem()
        v = torch.randn_like(image)
        gradient = torch.func.grad(squares)
        # of a quadratic form: the gradient's difference
        wanted = gradient(image + v, maps) - gradient(image, maps)
        forward = torch.func.jvp(lambda x: gradient(x, maps), (image,), (v,))[1]
        torch.testing.assert_close(forward, wanted, rtol=1e-4, atol=1e-4)
        twice = torch.func.grad(lambda x: (gradient(x, maps) * v).sum())(image)
        torch.testing.assert_close(twice, wanted, rtol=1e-4, atol=1e-4)
        leaf = image.clone().requires_grad_()
        (first,) = torch.autograd.grad(squares(leaf, maps), leaf, create_graph=True)
        (second,) = torch.autograd.grad((first * v).sum(), leaf)
        torch.testing.assert_close(second, wanted, rtol=1e-4, atol=1e-4)

    def test_hessian(self):
        image = torch.rand(1, 1, 2, 3)
        maps = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
        hessian = torch.func.hessian(lambda x: squares(x, maps))(image).view(6, 6)
        columns = [
            torch.func.grad(squares)(image + unit.view(1, 1, 2, 3), maps)
            - torch.func.grad(squares)(image, maps)
            for unit in torch.eye(6)
        ]
        torch.testing.assert_close(hessian, torch.stack(columns, -1).view(6, 6))

    def test_gradients_of_each_sample(self):
        image, maps = torch.rand(3, 2, 1, 4, 5), matrices(2, (4, 5), (5, 4))
        each = torch.func.vmap(torch.func.grad(squares), (0, None))(image, maps)
        for i in range(3):
            torch.testing.assert_close(each[i], torch.func.grad(squares)(image[i], maps))
        many = torch.stack([maps, -maps, maps.flip(0)])
        each = torch.func.vmap(torch.func.grad(squares), (None, 0))(image[0], many)
        for i in range(3):
            torch.testing.assert_close(each[i], torch.func.grad(squares)(image[0], many[i]))

    def test_a_tangent_of_matrices_is_refused(self):
        image, maps = self.problem()
        for transform in (torch.func.grad(squares, 1), torch.func.jacfwd(squares, 1)):
            with pytest.raises(RuntimeError, match="matrices would need a gradient"):
                transform(image, maps)

    def test_special_values(self):
        gradient = torch.full((1, 1, 2, 3), math.inf)
        gradient[0, 0, 0, 1] = math.nan
        image = torch.rand(1, 1, 2, 3)
        maps = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
        same(gradient_of(CPU, gradient, image, maps), expected_gradient(gradient, image, maps))
