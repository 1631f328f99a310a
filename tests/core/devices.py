"""Devices and instruction sets that every family's tests run on, and how results are compared."""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import strop
from strop import _C


class Device:
    """Where ops run in a test: on the CPU under one instruction set, or on a GPU.

    Has strop's functions, which take and return tensors of the CPU wherever they run; what they
    write is copied back.
    """

    def __init__(self, name: str, place: str = "cpu", isa: str | None = None) -> None:
        self.name, self.place, self.isa = name, place, isa
        self.before: list[str] = []

    def __repr__(self) -> str:
        return self.name

    def __enter__(self) -> "Device":
        self.before.append(strop.isa())
        if self.isa is not None:
            strop.set_isa(self.isa)
        return self

    def __exit__(self, *_: object) -> None:
        strop.set_isa(self.before.pop())

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor there, of the same strides and offset; itself on the CPU."""
        if self.place == "cpu":
            return tensor
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage()).to(self.place)
        return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def size(self, whole: tuple[int, ...], small: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a large problem; the small one where an element takes a microsecond."""
        return whole

    def straight_through(
        self, x: torch.Tensor, *parameters: torch.Tensor | None, dy: torch.Tensor, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(result, gradient of x), where nothing else needs one."""
        leaf = self.put(x).clone().requires_grad_()
        others = [None if t is None else self.put(t) for t in parameters]
        y = strop.fake_quantize(leaf, *others, **options)
        (dx,) = torch.autograd.grad(y, leaf, self.put(dy))
        return y.detach().cpu(), dx.cpu()

    def gradients(
        self, tensors: tuple[torch.Tensor | None, ...], dy: torch.Tensor, **options: object
    ) -> list[torch.Tensor]:
        """Of every tensor that is a floating one."""
        leaves = [None if t is None else self.put(t).clone() for t in tensors]
        wanted = [t.requires_grad_() for t in leaves if t is not None and t.is_floating_point()]
        y = strop.fake_quantize(*leaves, **options)
        return [g.cpu() for g in torch.autograd.grad(y, wanted, self.put(dy))]

    def __getattr__(self, op: str) -> Callable[..., torch.Tensor]:
        function = getattr(strop, op)

        def call(*arguments: object, **options: object) -> torch.Tensor:
            there: dict[int, torch.Tensor] = {}
            put = lambda t: there.setdefault(id(t), self.put(t))  # noqa: E731
            moved, more = pytree.tree_map_only(torch.Tensor, put, (arguments, options))
            result = function(*moved, **more)
            written = options.get("out", arguments[0] if op.endswith("_") else None)
            if written is None:
                return result.cpu()
            if self.place != "cpu":
                written.copy_(there[id(written)])
            return written

        return call


# (it is not there without nvcc, whose headers it needs, nor in a wheel)
_cuda_host = None
if importlib.util.find_spec("strop._cuda_host") is not None:
    from strop import _cuda_host


class CudaHost(Device):
    """The CUDA kernels on the CPU, every access of theirs checked. Has kernels, but no autograd."""

    def size(self, whole: tuple[int, ...], small: tuple[int, ...]) -> tuple[int, ...]:
        return small

    def straight_through(
        self, x: torch.Tensor, *parameters: torch.Tensor | None, dy: torch.Tensor, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mask = np.zeros((x.numel() + 31) // 32 * 4, np.uint8)
        arrays = [to_array(t) for t in (x, *parameters)]
        y = _cuda_host.fake_quantize(*arrays, mask=mask, **options)
        return to_tensor(y), to_tensor(_cuda_host.masked_gradient(to_array(dy), mask))

    def gradients(
        self, tensors: tuple[torch.Tensor | None, ...], dy: torch.Tensor, **options: object
    ) -> list[torch.Tensor]:
        arrays = (to_array(None if t is None else t.contiguous()) for t in (dy, *tensors))
        return [
            to_tensor(g) for g in _cuda_host.learned_gradient(*arrays, **options) if g is not None
        ]

    def __getattr__(self, op: str) -> Callable[..., torch.Tensor]:
        function = getattr(_cuda_host, op.removesuffix("_"))

        def call(*tensors: torch.Tensor | None, **options: object) -> torch.Tensor:
            out = tensors[0] if op.endswith("_") else options.pop("out", None)
            out = torch.empty_like(tensors[0]) if out is None else out
            function(*(to_array(t) for t in tensors), **options, out=to_array(out))
            return out

        return call


def cpu_devices(family: str) -> list[Device]:
    """One for each instruction set of this machine that a family has kernels of its own for."""
    own = _C.isas_of_families()[family]
    return [Device(f"cpu-{isa}", isa=isa) for isa in strop.supported_isas() if isa in own]


DEVICES = cpu_devices("quantize")  # which has those that every family has
if _cuda_host is not None:
    DEVICES.append(CudaHost("cuda-host"))
if torch.cuda.is_available():
    DEVICES.append(Device("cuda", "cuda"))


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
        ml_dtypes = pytest.importorskip("ml_dtypes")
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
