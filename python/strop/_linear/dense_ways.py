"""The dense products that torch has on a CPU: its own, and oneDNN's with a weight in oneDNN's order."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from strop._core.tensor_dataclass import TensorDataclass
from strop._linear import plans

_ROWS = 32  # of input, that the order suits; it does for others
_FUSED = {
    None: ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}


def can_prepack(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies by prepacked weights of a dtype here."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def prepacked(weight: Tensor) -> Tensor:
    """A weight [N, K] in oneDNN's order."""
    with torch.inference_mode(False), torch.no_grad():
        return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS))


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """A prepacked layer of input [..., K] of two dimensions and more, and its activation in one pass."""
    attribute, algorithm = _FUSED[activation]
    call = torch.ops.mkldnn._linear_pointwise.default
    bias = None if bias is None else bias.contiguous()  # (oneDNN does not look at its strides)
    return cast(Tensor, call(x, weight, bias, attribute, [], algorithm))


class Prepacked(TensorDataclass):
    """A weight whose dense one may be prepacked as well: when it is first used, and not saved."""

    methods: tuple[int, ...]
    _prepacked = cast("Tensor | None", None)

    def method_names(self) -> list[str]:
        """The method of each class of rows."""
        return [plans.METHOD_OF[number] for number in self.methods]

    def _bytes(self) -> int:
        weight = cast(Any, self)
        ordered: int = math.prod(weight.shape) * weight.input_dtype.itemsize
        return super()._bytes() + (ordered if "prepacked" in self.method_names() else 0)

    def prepacked(self) -> Tensor | None:
        """The dense weight in oneDNN's order; None if that is not to be had."""
        dense: Tensor | None = cast(Any, self).dense
        if self._prepacked is None and dense is not None and can_prepack(dense.dtype):
            object.__setattr__(self, "_prepacked", prepacked(dense))
        return self._prepacked

    def _settle(self) -> None:
        cast(Any, super())._settle()
        object.__setattr__(self, "_prepacked", None)
