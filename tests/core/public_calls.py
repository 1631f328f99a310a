"""A valid call of everything public, for tests that go through all of it.

A line for each function, by its name below ``strop.``: what makes its arguments, by the names of its parameters.
Where options exclude each other there are several.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import strop
from strop._core.tensor_dataclass import TensorDataclass

Arguments = dict[str, Any]

X = torch.linspace(-2, 2, 64).view(4, 16)
MATRIX = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
SCALE, ZERO = torch.full((4, 4), 0.1), torch.zeros(4, 4, dtype=torch.int32)
BYTES = torch.arange(8, dtype=torch.uint8).view(2, 4)
KEEPS = X.abs() > 1


def _images(**more: Any) -> Arguments:
    return {"images": torch.rand(1, 3, 4, 5), "matrices": MATRIX.clone(), **more}


def _weight() -> strop.PackedWeight:
    return strop.pack_weight(X, KEEPS, plan="packed")


def _coded_weight() -> strop.PackedWeight:
    return strop.pack_weight(X, format="int8", activations="int8")


def _dense_weight() -> strop.PackedWeight:
    return strop.pack_weight(X, KEEPS, plan="dense")


def _quantized() -> strop.QuantizedTensor:
    return strop.quantize(X, format="int4", block_size=(1, 4), symmetric=False)


def _fields(holder: Any) -> Arguments:
    return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def _loaded_state() -> Mapping[str, Tensor]:
    model = _model()
    strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    return model.state_dict()


def _packed_state() -> dict[str, Tensor]:
    return {
        "weight_packed": torch.zeros(4, 2, dtype=torch.int32),
        "weight_scale": torch.ones(4, 2),
        "weight_shape": torch.tensor([4, 16]),
    }


class _QuantState:
    """What bitsandbytes has beside its codes."""

    quant_type, shape, blocksize, nested = "nf4", (4, 16), 16, False
    absmax, dtype = torch.ones(4), torch.float32


class Int8Tensor(Tensor):
    """As torchao has it."""

    @staticmethod
    def of(codes: Tensor) -> Tensor:
        made = torch.empty(codes.shape).as_subclass(Int8Tensor)
        made.qdata, made.scale, made.zero_point = codes, torch.ones(4, 1), None
        made.block_size = [1, 16]
        return made


_GIVEN = {"scale": SCALE, "zero_point": ZERO}
_INT8 = {"format": "int8", "block_size": (1, 4), "rounding": "half_even", "symmetric": True}
_INT8 |= {"quant_min": -128, "quant_max": 127, "eps": 1e-6, "seed": 3}
_KERAS = {"theta": 10.0, "tx": 1.0, "ty": 1.0, "shear": 0.0, "zx": 1.0, "zy": 1.0}

# What is more than one call is a list.
CALLS: dict[str, Callable[[], Arguments] | list[Callable[[], Arguments]]] = {
    "QuantizedTensor": lambda: _fields(_quantized()),
    "QuantizedTensor.from_bitsandbytes": lambda: {
        "packed": torch.zeros(32, 1, dtype=torch.uint8),
        "quant_state": _QuantState(),
    },
    "QuantizedTensor.from_compressed_tensors": lambda: {
        "state": _packed_state(),
        "name": "",
        "bits": 4,
        "block_size": (1, 8),
        "dtype": torch.float32,
    },
    "QuantizedTensor.from_float8": lambda: {
        "tensor": X.to(torch.float8_e4m3fn),
        "scale": torch.ones(4, 1),
        "block_size": (1, -1),
        "dtype": torch.float32,
    },
    "QuantizedTensor.from_state_dict": lambda: {
        "state": _quantized().state_dict(),
        **{
            name: getattr(_quantized(), name) for name in ("format", "block_size", "shape", "dtype")
        },
    },
    "QuantizedTensor.from_torchao": lambda: {"tensor": Int8Tensor.of(X.to(torch.int8))},
    "NumberFormat.get": lambda: {"name": "int4"},
    "MaskedWeight": lambda: _fields(_weight()),
    "MaskedWeight.from_state_dict": lambda: {"state": _weight().state_dict()},
    "affine_matrix": lambda: {
        "angle": 10.0,
        "translate": (1.0, 2.0),
        "scale": torch.ones(2),
        "shear": 0.0,
        "height": 4,
        "width": 5,
    },
    "augment_images": [
        lambda: _images(size=(4, 5), mean=0.5, std=[0.5, 0.4, 0.3], fill=0.5, dtype=torch.float32),
        lambda: _images(mean=torch.rand(3), std=torch.ones(3), out=torch.empty(1, 3, 4, 5)),
        lambda: _images(
            interpolation="nearest", fill_mode="wrap", memory_format=torch.channels_last
        ),
    ],
    "build_info": dict,
    "choose_scale": lambda: {
        "input": X.clone(),
        **{k: _INT8[k] for k in _INT8 if k not in ("rounding", "seed")},
    },
    "dequantize": [
        lambda: {"q": _quantized(), "dtype": torch.float16},
        lambda: {"q": _quantized(), "out": torch.empty(4, 16)},
    ],
    "fake_quantize": [
        lambda: {
            "input": X.clone(),
            **_GIVEN,
            **_INT8,
            "grad_factor": 1.0,
            "out": torch.empty(4, 16),
        },
        lambda: {"input": X.clone(), "rounding": "stochastic", "seed": torch.tensor(3)},
    ],
    "fake_quantize_": lambda: {"input": X.clone(), **_GIVEN, **_INT8, "grad_factor": 1.0},
    "formats": dict,
    "isa": dict,
    "keras_matrix": lambda: {**_KERAS, "height": 4, "width": 5, "legacy": False},
    "densify": lambda: {"model": _model()},
    "load_packed": lambda: {"model": _model(), "state_dict": _loaded_state()},
    "nn.Held": lambda: {"holder": _quantized()},
    "nn.PackedLinear": [
        lambda: {"weight": _coded_weight(), "bias": torch.zeros(4), "activation": "relu"},
        lambda: {"weight": _weight(), "bias": torch.zeros(4), "activation": "relu"},
    ],
    "nn.PackedLinear.from_dense": [
        lambda: {
            "linear": nn.Linear(16, 4),
            "format": "int4",
            "block_size": (1, 16),
            "symmetric": False,
            "activations": "uint8",
            "activation": "relu",
        },
        lambda: {
            "linear": nn.Linear(16, 4),
            "format": "int8",
            "block_size": (1, -1),
            "scale": torch.ones(4, 1),
            "zero_point": torch.zeros(4, 1, dtype=torch.int32),
        },
        lambda: {
            "linear": nn.Linear(16, 4),
            "mask": KEEPS,
            "dtype": torch.float32,
            "rows": 1,
            "plan": "packed",
            "backward": True,
            "activation": "relu",
        },
    ],
    "PackedWeight.from_state_dict": [
        lambda: {"state": _coded_weight().state_dict()},
        lambda: {"state": _weight().state_dict()},
    ],
    "pack_weight": [
        lambda: {
            "weight": X.clone(),
            "mask": KEEPS,
            "dtype": torch.float32,
            "rows": 1,
            "plan": "packed",
            "backward": True,
        },
        lambda: {"weight": X.clone(), "mask": KEEPS, "format": "nf4"},
        lambda: {
            "weight": X.clone(),
            "format": "int4",
            "block_size": (1, 16),
            "symmetric": False,
            "activations": "uint8",
        },
        lambda: {
            "weight": X.clone(),
            "format": "int8",
            "block_size": (1, 16),
            "scale": torch.ones(4, 1),
            "zero_point": torch.zeros(4, 1, dtype=torch.int32),
        },
    ],
    "packed_linear": [
        lambda: {
            "input": X.clone(),
            "weight": _coded_weight(),
            "bias": torch.ones(4),
            "activation": "relu",
        },
        lambda: {"input": X.clone(), "weight": _coded_weight(), "out": torch.empty(4, 4)},
        lambda: {
            "input": X.clone(),
            "weight": _weight(),
            "bias": torch.ones(4),
            "activation": "relu",
        },
        lambda: {"input": X.clone(), "weight": _weight(), "out": torch.empty(4, 4)},
        lambda: {"input": X.clone(), "weight": _dense_weight(), "bias": torch.ones(4)},
        lambda: {"input": X.clone(), "weight": _dense_weight(), "out": torch.empty(4, 4)},
    ],
    "pack_bits": lambda: {"codes": BYTES, "bits": 4},
    "pack_mask": lambda: {"mask": KEEPS},
    "prune_mask": [
        lambda: {
            "weight": X.clone(),
            "sparsity": 0.5,
            "pattern": (2, 4),
            "per": "row",
            "norm": "l2",
        },
        lambda: {"weight": X.clone(), "threshold": 0.5},
    ],
    "prune_masks": lambda: {
        "model_or_params": {"a": X.clone()},
        "sparsity": 0.5,
        "pattern": "unstructured",
        "filter": lambda name, weight: True,
    },
    "quantization_report": lambda: {"model_or_state_dict": {"a": X.clone()}, "formats": ["int8"]},
    "quantize": [
        lambda: {"input": X.clone(), **_GIVEN, **_INT8},
        lambda: {"input": X.clone(), "format": "mxfp4", "rounding": "stochastic", "seed": 3},
    ],
    "set_isa": lambda: {"name": strop.isa()},
    "soft_threshold": [
        lambda: {"weight": X.clone(), "amount": 0.5, "out": torch.empty(4, 16)},
        lambda: {"weight": X.clone(), "amount": torch.ones(4, 1)},
    ],
    "soft_threshold_": lambda: {"weight": X.clone(), "amount": torch.ones(4, 1)},
    "pack_model": [
        lambda: {
            "model": _model(),
            "sparsity": 0.5,
            "pattern": "unstructured",
            "dtype": torch.float32,
            "filter": None,
            "only_if_faster": False,
            "plan": "packed",
            "fuse": True,
        },
        lambda: {
            "model": _model(),
            "example_inputs": torch.randn(3, 16),
            "format": "int8",
            "block_size": (1, -1),
            "symmetric": True,
            "activations": "uint8",
            "recipe": {"2": {"format": "nf4"}},
            "min_sqnr": 1.0,
        },
        lambda: {"model": _model(), "masks": {"0.weight": torch.ones(8, 16, dtype=torch.bool)}},
    ],
    "supported_isas": dict,
    "tune": lambda: {"force": False},
    "unpack_bits": lambda: {
        "packed": BYTES,
        "bits": 4,
        "count": 8,
        "out": torch.empty(2, 8, dtype=torch.uint8),
    },
    "unpack_mask": lambda: {"bits": BYTES, "K": 30},
    "warp_boxes": lambda: {
        "boxes": torch.rand(1, 2, 4),
        "matrices": MATRIX,
        "size": (4, 5),
        "return_visible": False,
    },
    "warp_masks": lambda: {
        "masks": torch.zeros(1, 4, 5),
        "matrices": MATRIX.clone(),
        "size": (4, 5),
        "fill": 1.0,
        "out": torch.empty(1, 4, 5),
    },
    "warp_points": lambda: {"points": torch.rand(1, 2, 2), "matrices": MATRIX},
}

# Whose arguments are not looked at, and what strop alone calls.
NOT_CALLED = {
    "NumberFormat",
    "PackedWeight",
    "PackedWeight.of_facts",
    "PackedWeight.of_shapes",
    "Report",
    "Scales",
    "nn",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Everything public that is called, by its name below ``strop.``."""
    for module, prefix in ((strop, ""), (strop.nn, "nn.")):
        for name in module.__all__:
            found = getattr(module, name)
            if prefix + name not in NOT_CALLED:
                yield prefix + name, found
            if isinstance(found, type) and issubclass(
                found, nn.Module | TensorDataclass | strop.NumberFormat
            ):
                for method, kind in _of_class(found):
                    if f"{prefix}{name}.{method}" not in NOT_CALLED:
                        yield f"{prefix}{name}.{method}", kind


def _of_class(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Its public methods that need no object."""
    for name in dir(owner):
        for base in owner.__mro__:
            if isinstance(vars(base).get(name), classmethod | staticmethod):
                if base.__module__.startswith("strop.") and not name.startswith("_"):
                    yield name, getattr(owner, name)
                break


def calls_of(name: str) -> list[Callable[[], Arguments]]:
    """What makes arguments of a function."""
    found = CALLS[name]
    return found if isinstance(found, list) else [found]


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """By name, those that are spelled out."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # built in
        return []
    spread = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind not in spread]
