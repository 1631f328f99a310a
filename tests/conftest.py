"""Devices and instruction sets that every family's tests run on."""

import os
from collections.abc import Callable

# Inductor's caches ignore the source of autograd kernels: after a change stale ones would be tested.
os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")

import hypothesis
import numpy as np
import pytest
import torch

import strop
from strop import _C

hypothesis.settings.register_profile("strop", deadline=None, max_examples=200, derandomize=True)
hypothesis.settings.load_profile("strop")

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
ISAS = strop.supported_isas()


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device with kernels; an op that has none there says so."""
    return torch.device(request.param)


@pytest.fixture(params=ISAS)
def isa(request):
    """Every instruction set that this machine has, in force during the test."""
    before = strop.isa()
    strop.set_isa(request.param)
    yield request.param
    strop.set_isa(before)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a floating tensor, every NaN the same."""
    tensor = torch.where(torch.isnan(tensor), torch.full_like(tensor, torch.nan), tensor)
    size = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.contiguous().view(size)


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor, note: object = "") -> None:
    """Equal to the bit, NaN equal to NaN; else the first difference and how many there are."""
    assert actual.dtype == expected.dtype, note
    assert actual.shape == expected.shape, note
    differ = bits(actual) != bits(expected)
    if differ.any():
        at = tuple(differ.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(differ.sum())} of {differ.numel()} elements differ, the first at {at}: "
            f"{actual[at].item()!r}, expected {expected[at].item()!r} {note}"
        )


def to_array(tensor: torch.Tensor | None) -> np.ndarray | None:
    """The numpy twin of a tensor, for the bindings and the oracle."""
    if tensor is None:
        return None
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """The tensor of which an array is the twin."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def oracle(name: str) -> Callable[..., torch.Tensor]:
    """The reference loop of an op, over torch tensors."""
    reference = getattr(_C.reference, name)

    def call(*tensors: torch.Tensor | None, **options: object) -> torch.Tensor:
        return to_tensor(reference(*(to_array(t) for t in tensors), **options))

    return call
