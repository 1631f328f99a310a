"""What the tests of pruning have in common: weights full of ties, and calls on every device."""

import math

import torch

import strop
from core.devices import CudaHost, _cuda_host, to_array, to_tensor
from strop import _C

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def weights(shape, dtype, seed=0):
    """Random, of which a third are ties, with zeros of both signs, subnormals, Inf and NaN."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(shape, generator=generator)
    w = torch.where(torch.rand(shape, generator=generator) < 0.35, (w * 4).round() / 4, w)
    flat = w.view(-1)
    for place, value in enumerate((0.0, -0.0, 1e-41, math.inf, -math.inf, math.nan)):
        flat[place * 7 + 3 :: 53 + place] = value
    return w.to(dtype)


def plain(options):
    """Options as the numpy bindings have them."""
    pattern = options.get("pattern")
    if not isinstance(pattern, tuple):
        return options
    return {**options, "pattern": "block", "block_size": list(pattern)}


def expected_masks(tensors, **options):
    """The oracle's masks, by one ranking."""
    masks = _C.reference.prune_masks([to_array(t.contiguous()) for t in tensors], **plain(options))
    return [torch.from_numpy(m) for m in masks]


def expected_mask(w, **options):
    return torch.from_numpy(_C.reference.prune_mask(to_array(w.contiguous()), **plain(options)))


def prune(device, w, **options):
    """prune_mask there."""
    if isinstance(device, CudaHost):
        return torch.from_numpy(_cuda_host.prune_mask(to_array(w.contiguous()), **plain(options)))
    return device.prune_mask(w, **options)


def prune_all(device, tensors, **options):
    """prune_masks there, as a list."""
    if isinstance(device, CudaHost):
        arrays = [to_array(t.contiguous()) for t in tensors]
        return [torch.from_numpy(m) for m in _cuda_host.prune_masks(arrays, **plain(options))]
    named = {str(i): device.put(t) for i, t in enumerate(tensors)}
    return [m.cpu() for m in strop.prune_masks(named, **options).values()]


def shrink(device, w, number):
    """soft_threshold by a number there."""
    if isinstance(device, CudaHost):
        return to_tensor(_cuda_host.soft_threshold(to_array(w), number))
    return device.soft_threshold(w, number)


def shrink_gradient(device, dy, w, amount):
    """The gradient of soft_threshold's weight there; amount is a tensor."""
    if isinstance(device, CudaHost):
        return to_tensor(_cuda_host.soft_threshold_gradient(*map(to_array, (dy, w, amount))))
    leaf = device.put(w).clone().requires_grad_()
    y = strop.soft_threshold(leaf, device.put(amount))
    return torch.autograd.grad(y, leaf, device.put(dy))[0].cpu()


def on(device, op, *arguments):
    """pack_mask or unpack_mask there."""
    if isinstance(device, CudaHost):
        tensor, *rest = arguments
        return torch.from_numpy(getattr(_cuda_host, op)(tensor.contiguous().numpy(), *rest))
    return getattr(device, op)(*arguments)
