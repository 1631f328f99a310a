"""The layers of compressed-tensors: compressed, or decompressed by the first call of their model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from strop._quantize.quantize import quantize
from strop._quantize.quantized_tensor import QuantizedTensor

_SCHEME, _OFFLOADED = "quantization_scheme", "_original_forward_func"
_ATTRIBUTES = frozenset(
    (
        *(_SCHEME, "quantization_status", "quantization_enabled"),
        *(_OFFLOADED, "is_staged", "forward"),
    )
)
_HOOK = "ct_decompress_hook"
_MICROSCALING = {4: "mxfp4", 8: "mxfp8"}
_FLOATS = {4: "float4_e2m1fn", 8: "float8_e4m3fn"}


def scheme_of(module: nn.Module) -> Any:
    """The scheme of a layer whose weight the library quantizes; None of any other."""
    scheme = vars(module).get(_SCHEME)
    return None if getattr(scheme, "weights", None) is None else scheme


def attributes(module: nn.Module) -> frozenset[str]:
    """The names of what the library has set on a module; decompressing a model changes all of its modules."""
    theirs = scheme_of(module) is not None or _OFFLOADED in vars(module)
    return _ATTRIBUTES if theirs else frozenset()


def is_compressed(module: nn.Module) -> bool:
    """Whether a layer has codes at present, with which its forward does not run."""
    compressed: bool = vars(module).get("quantization_status") == "compressed"
    return compressed


def other_call(module: nn.Module) -> bool:
    """Whether a layer's forward was replaced, by more than what the library does around a weight."""
    if _SCHEME in vars(module) and scheme_of(module) is None:  # it quantizes input or output alone
        return "forward" in vars(module)
    where = [getattr(module._parameters, f"{way}load_device", None) for way in ("on", "off")]
    if where[0] != where[1]:  # it moves its weight at each call
        return True
    function = getattr(vars(module).get("forward"), "__func__", vars(module).get("forward"))
    while function is not None and function is not type(module).forward:
        package = getattr(function, "__globals__", {}).get("__name__", "")
        if not package.startswith("compressed_tensors."):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def activations(scheme: Any) -> str | None:
    """What a scheme quantizes each row of the input to when it is called, where strop does the same."""
    how = scheme.input_activations
    if how is None or (how.type, how.num_bits, how.strategy) != ("int", 8, "token"):
        return None
    if how.dynamic is not True:
        return None
    return "int8" if how.symmetric else "uint8"


def quantized(linear: nn.Module, scheme: Any) -> QuantizedTensor:
    """The codes and scales; raises ValueError or TypeError where there are none."""
    state = {
        name: tensor.detach()
        for held in (linear._parameters, linear._buffers)
        for name, tensor in held.items()
        if tensor is not None
    }
    if any(tensor.is_meta for tensor in state.values()):
        raise ValueError("it is on meta, where there are no numbers")
    status = vars(linear).get("quantization_status")
    if status == "decompressed":
        return _recovered(state, scheme.weights)
    if status != "compressed":
        raise ValueError(f"it is not compressed yet: quantization_status is {status}")
    if scheme.weights.type == "float":
        return _floats(state, scheme.weights)
    return _loaded(state, scheme.weights)


def _loaded(state: dict[str, Tensor], weights: Any) -> QuantizedTensor:
    block = tuple(weights.block_structure) if weights.strategy == "block" else None
    return QuantizedTensor.from_compressed_tensors(state, bits=weights.num_bits, block_size=block)


def _floats(state: dict[str, Tensor], weights: Any) -> QuantizedTensor:
    """Of floats of 8 bits, or of 4 that lie two to a byte, the first in the low bits."""
    if weights.num_bits not in _FLOATS:
        raise ValueError(f"floats of {weights.num_bits} bits are not known")
    name = "weight_packed" if weights.num_bits == 4 else "weight"
    codes, scale = state.get(name), state.get("weight_scale")
    if codes is None or scale is None:
        raise ValueError(f"the layer lacks {name} or weight_scale")
    if codes.dtype.itemsize != 1:
        raise TypeError(f"{name} has dtype {codes.dtype}; bytes are needed")
    if scale.dtype == torch.uint8:
        kind, block, dtype = _MICROSCALING[weights.num_bits], None, torch.bfloat16
    elif weights.num_bits == 4:  # nvfp4 divides its scales by one of the tensor
        scale = scale.float() / state.get("weight_global_scale", torch.ones(1))
        kind, block, dtype = _FLOATS[4], (1, weights.group_size), torch.bfloat16
    else:
        return _loaded(state, weights)
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // weights.num_bits)
    return QuantizedTensor(codes.view(torch.uint8), scale, None, None, kind, block, shape, dtype)


def _recovered(state: dict[str, Tensor], weights: Any) -> QuantizedTensor:
    """The codes that a decompressed weight was made of, by the scales that are still there."""
    weight, scale = state.get("weight"), state.get("weight_scale")
    if weight is None or scale is None:
        raise ValueError("the layer lacks weight or weight_scale")
    integers = weights.type == "int"
    kind = f"int{weights.num_bits}" if integers else _FLOATS.get(weights.num_bits)
    if kind is None:
        raise ValueError(f"floats of {weights.num_bits} bits are not known")
    scale = scale.float() / state.get("weight_global_scale", torch.ones(1))
    zero = None if weights.symmetric else state.get("weight_zero_point")
    found = quantize(weight, scale, zero, format=kind, block_size=_block_size(weights))
    if not torch.equal(found.dequantize(), weight):
        raise ValueError("its scales do not give it back exactly, now that it is decompressed")
    return found


def _block_size(weights: Any) -> tuple[int, ...] | None:
    if weights.strategy == "block":
        return tuple(weights.block_structure)
    if weights.strategy in ("group", "tensor_group"):
        return (1, weights.group_size)
    return (1, -1) if weights.strategy == "channel" else None


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within it a call of the model decompresses nothing, which is for good."""
    before = []
    for module, hook in _hooked(model):
        before.append((module._forward_pre_hooks, dict(module._forward_pre_hooks)))
        module._forward_pre_hooks.pop(hook.id, None)
    try:
        yield
    finally:
        for hooks, held in before:
            hooks.clear()
            hooks.update(held)


def forget(model: nn.Module) -> None:
    """Takes the library's hook from what has nothing left to decompress."""
    for module, hook in _hooked(model):
        if not any(map(is_compressed, module.modules())):
            hook.remove()
            delattr(module, _HOOK)


def _hooked(model: nn.Module) -> list[tuple[nn.Module, Any]]:
    """The modules with the library's hook, and its handle."""
    return [(m, vars(m)[_HOOK]) for m in model.modules() if _HOOK in vars(m)]
