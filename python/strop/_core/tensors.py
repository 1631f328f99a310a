"""Which tensors hold their numbers as strop reads them, and which of them share memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from strop._core.errors import is_foreign

METADATA = frozenset(
    (
        *(
            getattr(Tensor, name).__get__
            for name in (
                *("shape", "dtype", "device", "layout", "ndim", "itemsize", "nbytes", "is_leaf"),
                *("requires_grad", "is_cuda", "is_cpu", "is_meta", "is_quantized", "is_sparse"),
                "is_nested",
            )
        ),
        *(
            getattr(Tensor, name)
            for name in (
                *("size", "dim", "ndimension", "numel", "nelement", "element_size", "stride"),
                *("is_floating_point", "is_complex", "is_contiguous", "get_device", "__len__"),
            )
        ),
    )
)
"""The functions of torch that tell of a tensor what is known without its numbers."""


def unreadable(tensor: Tensor) -> str:
    """Why a tensor's numbers cannot be read; nothing where they can.

    Tensors that other libraries made (torchao's quantized ones, DTensors) answer to few operations, so
    that nothing is asked of them but their type.
    """
    kind = type(tensor)
    if is_lazy(tensor):
        return "not initialised"
    if _answers_itself(kind):
        return f"a {kind.__name__}, a subclass of torch.Tensor"
    if tensor.is_meta:
        return "on meta, where there are no numbers"
    if tensor.is_quantized:
        return f"quantized, {tensor.dtype}"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}"
    if tensor.is_nested:
        return "nested"
    return ""


def _answers_itself(kind: type[Tensor]) -> bool:
    """Whether operations on tensors of a class are not torch's."""
    function: Any = kind.__torch_function__
    plain: Any = Tensor.__torch_function__
    mine = getattr(function, "__func__", function)
    known = (plain.__func__, torch._C._disabled_torch_function_impl)
    return mine not in known or is_foreign(kind)


def metadata(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, int]:
    """Shape, dtype and bytes of any tensor; of one without a shape, an empty one."""
    if is_lazy(tensor) or (tensor.is_nested and tensor.layout == torch.strided):
        return (), tensor.dtype, 0
    with torch._C.DisableTorchFunctionSubclass():
        shape = tuple(tensor.shape)
        return shape, tensor.dtype, tensor.numel() * tensor.dtype.itemsize


def span(tensor: Tensor) -> tuple[int, int] | None:
    """First byte and the one after the last, where a tensor has memory that is read as it is."""
    if unreadable(tensor) or tensor.numel() == 0:
        return None
    start = tensor.data_ptr()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return start, start + (last + 1) * tensor.element_size()


def identity(tensor: Tensor) -> Hashable:
    """Equal for tensors that are the same numbers of the same memory, in the same order."""
    where = span(tensor)
    if where is None:
        return id(tensor)
    return (tensor.device, where[0], tuple(tensor.shape), tensor.stride(), tensor.dtype)
