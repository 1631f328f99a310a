"""Quantized weights of other libraries, taken as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from strop._quantize.quantized_tensor import QuantizedTensor


def quantized_of(weight: Tensor | None) -> QuantizedTensor | None:
    """Codes and scales of a quantized weight, bit for bit; None of any other.

    torchao's are tensors of classes of their own; bitsandbytes' 4-bit ones have a ``quant_state``.
    """
    if weight is None:
        return None
    try:
        if type(weight).__module__.startswith("torchao."):
            return QuantizedTensor.from_torchao(weight)
        state: Any = getattr(weight, "quant_state", None)
        if type(weight).__name__ == "Params4bit" and state is not None:
            return QuantizedTensor.from_bitsandbytes(weight.detach(), state)
    except (TypeError, ValueError):
        return None
    return None
