"""What a quantized tensor is made of, for whatever makes one from another: rows, other libraries' tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Parts(NamedTuple):
    """The fields of a :class:`strop.QuantizedTensor`, in its order, not checked yet."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    format: str
    block_size: tuple[int, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
