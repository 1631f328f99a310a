"""What the tests of augmentation have in common: images, matrices, and calls on every device."""

import math

import numpy as np
import torch

import strop
from core.devices import CudaHost, _cuda_host, to_array, to_tensor
from strop import _C

FLOATING = [torch.float32, torch.bfloat16, torch.float16]
FILL_MODES = ["constant", "hard_constant", "nearest", "reflect", "mirror", "wrap", "grid_wrap"]
LAYOUTS = ["contiguous", "channels_last", "steps", "transposed", "expanded"]


def laid_out(tensor, layout):
    """The same values, otherwise in memory; expanded: the first image again and again."""
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "steps":
        b, c, h, w = tensor.shape
        wide = torch.zeros(b, c + 1, 2 * h + 1, 3 * w + 2, dtype=tensor.dtype)
        part = wide[:, 1:, 1::2, 2::3]
        part.copy_(tensor)
        return part
    if layout == "transposed":
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "expanded":
        return tensor[:1].expand(tensor.shape)
    return tensor


def images(shape, dtype=torch.uint8, seed=0, layout="contiguous"):
    """Random: every byte, or 0 to 1 with a NaN, an Inf and a large value here and there."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        tensor = torch.randint(0, 256, shape, dtype=dtype, generator=generator)
    else:
        tensor = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
        for place, value in enumerate((math.nan, math.inf, -3.0)):
            tensor.view(-1)[place * 31 + 17 :: 211 + place] = value
    return laid_out(tensor, layout)


def affine(generator, from_, to):
    """A random affine map of centre to centre, with shear and flips, a tenth of them singular."""
    height, width = from_
    turn, stretch = generator.uniform(-4, 4), generator.uniform(0.3, 2.5, 2)
    flips = generator.choice([-1, 1], 2)
    linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = linear @ np.array([[1, generator.uniform(-1, 1)], [0, 1]]) @ np.diag(stretch * flips)
    if generator.random() < 0.1:
        linear[1] = linear[0] * generator.uniform(-1, 1) + generator.uniform(-1e-7, 1e-7, 2)
    centre = np.array([width - 1, height - 1]) / 2 + generator.normal(0, 0.2, 2) * [width, height]
    start = centre - linear @ (np.array([to[1] - 1, to[0] - 1]) / 2)
    return np.column_stack([linear, start])


def peculiar(from_, to):
    """Matrices that a kernel may have a path for, or trip over."""
    (h, w), (h2, w2) = from_, to
    return {
        "identity": [[1, 0, 0], [0, 1, 0]],
        "flip": [[-1, 0, w - 1], [0, 1, 0]],
        "upside down": [[1, 0, 0], [0, -1, h - 1]],
        "half a turn": [[-1, 0, w - 1], [0, -1, h - 1]],
        "transpose": [[0, 1, 0], [1, 0, 0]],
        "crop": [[1, 0, 2], [0, 1, 3]],
        "shift": [[1, 0, -3], [0, 1, -2]],
        "half pixel": [[1, 0, 0.5], [0, 1, -0.5]],
        "resize": [[w / w2, 0, w / w2 / 2 - 0.5], [0, h / h2, h / h2 / 2 - 0.5]],
        "zeros": [[0, 0, 0], [0, 0, 0]],
        "one row": [[1, 0, 0], [0, 0, h / 2]],
        "far right": [[1, 0.1, 3 * w + 5], [0, 1, 0]],
        "far up": [[1, 0, 0], [0.1, 1, -7 * h - 5]],
        "very far": [[1, 0, 2.0**23], [0, 1, -(2.0**24)]],
        "steep": [[2.0**15, -77.7, 0], [3, 2.0**14, 5]],
        "huge": [[1, 0, 0], [0, 1e30, 0]],
        "beyond": [[1, 0, 2.0**24 + 2], [0.5, 1, 0]],
        "nan": [[1, 0, 0], [0, math.nan, 0]],
        "inf": [[1, 0, math.inf], [0, 1, 0]],
        "minus inf": [[1, 0, 0], [-math.inf, 1, 0]],
        "tiny": [[1e-30, 0, 1], [0, 1e-40, 1]],
    }


def peculiar_matrices(from_, to):
    return torch.tensor(list(peculiar(from_, to).values()), dtype=torch.float32)


def matrices(count, from_, to, seed=0):
    """Random ones."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([affine(generator, from_, to) for _ in range(count)])).float()


def _names(options):
    """Options as the numpy bindings have them."""
    plain = dict(options)
    for name in ("fill", "mean", "std"):
        value = plain.get(name)
        if isinstance(value, torch.Tensor):
            plain[f"{name}_array"] = to_array(plain.pop(name))
        elif isinstance(value, int | float):
            plain[name] = [value]
    if isinstance(plain.get("size"), int):
        plain["size"] = [plain["size"]] * 2
    if "dtype" in plain:
        plain["dtype"] = str(plain["dtype"]).removeprefix("torch.")
    return plain


def _by(binding, images, matrices, options):
    """augment_images of a module of bindings."""
    options = dict(options)
    out, layout = options.pop("out", None), options.pop("memory_format", torch.contiguous_format)
    plain = _names(options)
    if out is None:
        shape = (*images.shape[:2], *(plain.get("size") or images.shape[2:]))
        dtype = options.get("dtype", torch.float32)
        out = torch.empty(shape, dtype=dtype).contiguous(memory_format=layout)
    binding.augment_images(to_array(images), to_array(matrices), to_array(out), **plain)
    return out


def expected(images, matrices=None, **options):
    """The oracle's result."""
    return _by(_C.reference, images, matrices, options)


def augment(device, images, matrices=None, **options):
    """augment_images there."""
    if isinstance(device, CudaHost):
        return _by(_cuda_host, images, matrices, options)
    return device.augment_images(images, matrices, **options)


def expected_masks(masks, matrices, size=None, fill=0):
    """The oracle's result."""
    size = None if size is None else list(size)
    found = _C.reference.warp_masks(to_array(masks), to_array(matrices), size, fill)
    return to_tensor(found)


def warp(device, masks, matrices, **options):
    """warp_masks there."""
    if not isinstance(device, CudaHost):
        return device.warp_masks(masks, matrices, **options)
    out = options.pop("out", None)
    size = options.get("size") or masks.shape[-2:]
    if out is None:
        out = torch.empty(*masks.shape[:-2], *size, dtype=masks.dtype)
    options = {**options, "size": list(size), "out": to_array(out)}
    _cuda_host.warp_masks(to_array(masks), to_array(matrices), **options)
    return out


def expected_gradient(gradient, images, matrices=None, **options):
    """The oracle's gradient of images."""
    arrays = map(to_array, (gradient, images, matrices))
    return to_tensor(_C.reference.augment_gradient(*arrays, **_names(options)))


def gradient_of(device, gradient, images, matrices=None, **options):
    """The gradient of images there."""
    if isinstance(device, CudaHost):
        arrays = map(to_array, (gradient, images, matrices))
        return to_tensor(_cuda_host.augment_gradient(*arrays, **_names(options)))
    leaf = device.put(images).detach().requires_grad_()
    there = None if matrices is None else device.put(matrices)
    options = {k: device.put(v) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    y = strop.augment_images(leaf, there, dtype=gradient.dtype, **options)
    return torch.autograd.grad(y, leaf, device.put(gradient))[0].cpu()


def same(found, wanted, note=""):
    """Equal to the bit, whatever the dtype and the strides; NaN equals NaN."""
    assert found.dtype == wanted.dtype, note
    assert found.shape == wanted.shape, note
    equal = found == wanted
    if found.is_floating_point():
        equal |= found.isnan() & wanted.isnan()
        equal &= found.isnan() | (found.signbit() == wanted.signbit())
    if not equal.all():
        at = tuple((~equal).nonzero()[0].tolist())
        raise AssertionError(
            f"{int((~equal).sum())} of {equal.numel()} differ, the first at {at}: "
            f"{found[at].item()!r}, expected {wanted[at].item()!r} {note}"
        )
