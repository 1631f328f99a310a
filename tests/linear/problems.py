"""What the tests of pruned weights run on."""

import torch

import strop
from core.devices import cpu_devices
from strop._linear import ops

CPU_DEVICES = cpu_devices("linear")
ROWS = (1, 2, 3, 5, 8, 9, 16, 17, 31, 32, 33, 64, 127, 300)
SPARSITIES = (0.0, 0.3, 0.5, 0.9, 0.99, 1.0)
LAYOUTS = ("mask", "quads", "pairs")  # of values of any dtype
ACTIVATIONS = {
    "": lambda y: y,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    "silu": torch.nn.functional.silu,
}


def layouts_of(dtype):
    """Those that values of a dtype have."""
    return LAYOUTS if dtype == torch.float16 else (*LAYOUTS, "panels")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(shape, sparsity, pattern="random", seed=0):
    """A mask: True keeps."""
    n, k = shape
    g = generator(seed)
    if pattern == "random":
        return torch.rand(shape, generator=g) >= sparsity
    if pattern == "magnitude":  # rows of very different density
        scale = torch.exp(torch.randn(n, 1, generator=g))
        weight = torch.randn(shape, generator=g).abs() * scale
        return weight >= weight.flatten().sort().values[min(int(sparsity * n * k), n * k - 1)]
    if pattern == "holes":  # empty rows and columns
        mask = torch.rand(shape, generator=g) >= sparsity
        mask[::3] = False
        mask[:, 1::4] = False
        return mask
    if pattern == "blocks":
        blocks = torch.rand(-(-n // 4), -(-k // 4), generator=g) >= sparsity
        return blocks.repeat_interleave(4, 0)[:n].repeat_interleave(4, 1)[:, :k]
    assert pattern == "2:4"
    order = torch.rand(n, -(-k // 4), 4, generator=g).argsort(-1)
    return (order < 2).flatten(1)[:, :k]


def pruned(shape, sparsity, pattern="random", seed=0):
    """A weight with zeros."""
    weight = torch.randn(shape, generator=generator(seed + 1))
    return torch.where(kept(shape, sparsity, pattern, seed), weight, 0)


def in_blocks(shape, block, sparsity):
    """A weight of which whole blocks are pruned."""
    counts = [-(-size // side) for size, side in zip(shape, block, strict=True)]
    mask = torch.rand(counts, generator=generator(4)) >= sparsity
    mask = mask.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    weight = torch.randn(shape, generator=generator(5))
    return torch.where(mask[: shape[0], : shape[1]], weight, 0)


def multiplied(x, weight, layout, bias=None, activation=""):
    """By one layout, whatever a plan would choose."""
    bits, values = ops.pack_masked(weight, None)
    made = ops.layout(bits, values, weight.shape[1], layout)
    return ops.by_layout(x, made, weight.shape[0], bias, activation)


def assert_close(y, x, weight, bias=None, activation="", note=""):
    """In the bound that docs/numerics.md promises, against float64."""
    exact = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    size = torch.nn.functional.linear(x.double().abs(), weight.double().abs())
    size = size if bias is None else size + bias.double().abs()
    bound = max(2e-6, 5e-8 * x.shape[-1] ** 0.5) * size
    if activation:  # slopes of up to 1.13; and what the activation itself may be off
        bound = 1.13 * bound + 3e-7 * exact.abs()
        exact = ACTIVATIONS[activation](exact)
    finfo = torch.finfo(y.dtype if y.dtype != torch.float64 else torch.float32)
    bound = bound + finfo.eps * exact.abs() + max(1e-37, finfo.smallest_normal * finfo.eps)
    bad = ~((y.double() - exact).abs() <= bound)
    if bad.any():
        at = tuple(bad.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(bad.sum())} of {bad.numel()} elements are off, the first at {at}: "
            f"{y[at].item()!r}, expected {exact[at].item()!r} within {bound[at].item():.3g} {note}"
        )


def choices_of(way):
    """A plan that always goes one way."""
    return (strop._linear.plans.NUMBER_OF[way],) * len(strop._linear.plans.CLASSES)


def one_way(w, way):
    """A weight with a mask whose plan always goes one way."""
    made = {"methods": choices_of(way), "plan_source": "packed", "backward": False}
    return type(w).prepared(w.bits, w.values, w.shape, **made)


def altered(layout):
    """A layout, each of its words made small, large, negative, one at a time."""
    for place in range(0, layout.size - 1, 2):
        for value in (0, 1, 0x7FFF, 0x8000, 0xFFFF):
            forged = layout.copy()
            forged[place : place + 2].view("uint16")[0] = value
            yield forged
