"""Layers with a quantized weight that somebody else made: it is taken as it is, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from strop._linear.coded_weight import check
from strop._models import compressed_layers
from strop._quantize.formats import NumberFormat
from strop._quantize.quantized_tensor import QuantizedTensor
from strop.nn._held import Held


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a layer has in place of a dense weight."""

    weight: QuantizedTensor | None
    """Codes and scales; None where they cannot be taken."""
    activations: str | None = None
    """What the layer quantizes each row of its input to, where strop computes the same; else None."""
    runs: bool = True
    """Whether the layer can be called as it is."""
    reason: str = ""
    """Why there is no weight."""


def foreign_of(linear: nn.Module) -> Foreign | None:
    """The quantized weight of an ``nn.Linear``; None where the layer has no such one.

    It is a :class:`strop.QuantizedTensor`, or torchao's, bitsandbytes' or compressed-tensors'. None of
    these libraries is imported.
    """
    if not isinstance(linear, nn.Linear):
        return None
    runs = True
    try:
        held = _held(linear)
        if held is not None:
            runs = type(linear).forward is not nn.Linear.forward
            return _checked(linear, Foreign(held, runs=runs))
        if (scheme := compressed_layers.scheme_of(linear)) is not None:
            runs = not compressed_layers.is_compressed(linear)
            activations = compressed_layers.activations(scheme)
            weight = compressed_layers.quantized(linear, scheme)
            return _checked(linear, Foreign(weight, activations, runs))
        found = _of_a_tensor(linear._parameters.get("weight"))
        return None if found is None else _checked(linear, found)
    except (TypeError, ValueError) as error:
        return Foreign(None, runs=runs, reason=f"its quantized weight cannot be taken: {error}")


def _held(linear: nn.Linear) -> QuantizedTensor | None:
    """The weight of a layer that has one of strop's, in a module or as an attribute."""
    module = linear._modules.get("weight")
    held = module() if isinstance(module, Held) else vars(linear).get("weight")
    return held if isinstance(held, QuantizedTensor) else None


def _of_a_tensor(weight: Any) -> Foreign | None:
    """What a parameter is by itself: of a class of torchao's, or one with bitsandbytes' state."""
    if type(weight).__module__.startswith("torchao."):
        return Foreign(QuantizedTensor.from_torchao(weight), _activations(weight))
    state = getattr(weight, "quant_state", None)
    if type(weight).__name__ == "Params4bit" and state is not None:
        return Foreign(QuantizedTensor.from_bitsandbytes(weight.detach(), state))
    return None


def _activations(weight: Any) -> str | None:
    """What torchao quantizes a row of the input to when it is called, where strop does the same."""
    if getattr(weight, "act_pre_scale", None) is not None:
        raise ValueError("it multiplies its input by act_pre_scale")
    if getattr(weight, "activation_quantization", None) == "int8_asym_per_token":
        return "uint8"
    how: Any = getattr(weight, "act_quant_kwargs", None)
    if type(how).__name__ != "QuantizeTensorToInt8Kwargs" or how.reduce_range:
        return None
    if type(how.granularity).__name__ != "PerRow" or weight.act_quant_scale is not None:
        return None
    return {"SYMMETRIC": "int8", "ASYMMETRIC": "uint8"}.get(how.mapping_type.name)


def _checked(linear: nn.Linear, found: Foreign) -> Foreign:
    """Raises ValueError or TypeError where a weight is none that is multiplied, or not this layer's."""
    weight, shape = found.weight, (linear.out_features, linear.in_features)
    assert weight is not None
    check(weight, "")
    if weight.shape != shape:
        raise ValueError(f"it has shape {weight.shape}; the layer has {shape}")
    return found


def multiplied_as_integers(weight: QuantizedTensor) -> bool:
    """Whether quantized input can be multiplied: zero points have to be codes as well."""
    format, zero = NumberFormat.get(weight.format), weight.zero_point
    if not format.is_integer or zero is None:
        return format.is_integer
    low, high = (int(bound) for bound in (format.min, format.max))
    return torch.equal(zero.round().clamp(low, high), zero)
