"""The dense products that torch has on a CPU: its own, and oneDNN's with a weight in oneDNN's order."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

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
    return cast(Tensor, call(x, weight, bias, attribute, [], algorithm))
