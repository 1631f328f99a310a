"""What the tests of fake_quantize run on."""

import math

import numpy as np
import pytest
import torch

import strop

INTEGERS = [f.name for f in strop.formats() if f.is_integer and f.bits]
SMALL_INTEGERS = [f.name for f in strop.formats() if f.is_integer and 0 < f.bits <= 8]
FLOATS = [f.name for f in strop.formats() if not f.is_integer and not f.block]
CASTS = [f for f in FLOATS if f != "nf4"]  # formats that a number is cast to
RECIPES = [f.name for f in strop.formats() if f.block]
ROUNDINGS = ["half_even", "half_away", "floor", "ceil", "trunc", "stochastic"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def scale_dtype(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def grid_of(shape, block_size):
    if block_size is None:
        return [1] * len(shape)
    return [
        math.ceil(n / (b if b > 0 else max(n, 1))) for n, b in zip(shape, block_size, strict=True)
    ]


def roundings_of(format):
    return ["half_even"] if format == "nf4" else ROUNDINGS


def blocks_of(format, shape):
    """Block sizes to try: the whole tensor, groups of which the last is short, one by one."""
    rows = (1,) * (len(shape) - 1)
    return [None] if format in RECIPES else [None, (*rows, 32), (*rows, 5), (*rows, 1)]


def sample(shape, dtype, seed=0):
    """Ordinary values, ties, both zeros, tiny ones."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64) * 3
    ties = (torch.randint(-9, 9, shape, generator=g) + 0.5).double()
    x = torch.where(torch.rand(shape, generator=g) < 0.2, ties, x)
    flat = x.reshape(-1)
    for i, value in enumerate((0.0, -0.0, 1e-6, -1e-6)):
        if flat.numel() > 4 * i + 1:
            flat[4 * i + 1] = value
    return flat.reshape(shape).to(dtype)


def any_bits(count, dtype=torch.float32, seed=0):
    """Numbers of random bits: every exponent as often as any other, NaN and Inf too."""
    bits = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    return torch.from_numpy(bits).view(dtype)


def every_exponent(columns, dtype):
    """Rows of ordinary numbers, each times a power of two: from the smallest to the largest."""
    powers = 2.0 ** torch.arange(-149, 124, dtype=torch.float64)
    return (sample((powers.numel(), columns), torch.float64) * powers[:, None]).to(dtype)


def peer(name):
    return pytest.importorskip(name, reason=f"the peer {name} is not installed")
