"""strop sharpens torch models: C++ and CUDA kernels as torch ops.

Every public name is here (or in :mod:`strop.nn`); the modules behind it are private.
"""

import importlib
from typing import TYPE_CHECKING

from strop import nn
from strop._augment.images import augment_images, warp_masks
from strop._augment.matrices import affine_matrix, keras_matrix
from strop._augment.points import warp_boxes, warp_points
from strop._C import isa, supported_isas
from strop._core.library import build_info, set_isa
from strop._core.report import Report
from strop._linear.pack_weight import pack_weight
from strop._linear.packed_linear import packed_linear
from strop._linear.packed_weight import PackedWeight
from strop._prune.prune_mask import pack_mask, prune_mask, unpack_mask
from strop._prune.soft_threshold import soft_threshold, soft_threshold_
from strop._quantize.bit_packing import pack_bits, unpack_bits
from strop._quantize.fake_quantize import fake_quantize, fake_quantize_
from strop._quantize.formats import NumberFormat, formats
from strop._quantize.quantize import choose_scale, quantize
from strop._quantize.quantized_tensor import QuantizedTensor, Scales, dequantize

if TYPE_CHECKING:
    from strop._linear.tune import tune
    from strop._models.densify import densify
    from strop._models.load_packed import load_packed
    from strop._models.pack_model import pack_model
    from strop._models.prune_masks import prune_masks
    from strop._quantize.report.report import quantization_report

__version__: str = build_info()["version"]

__all__ = [
    "NumberFormat",
    "PackedWeight",
    "QuantizedTensor",
    "Report",
    "Scales",
    "affine_matrix",
    "augment_images",
    "build_info",
    "choose_scale",
    "densify",
    "dequantize",
    "fake_quantize",
    "fake_quantize_",
    "formats",
    "isa",
    "keras_matrix",
    "load_packed",
    "nn",
    "pack_bits",
    "pack_mask",
    "pack_model",
    "pack_weight",
    "packed_linear",
    "prune_mask",
    "prune_masks",
    "quantization_report",
    "quantize",
    "set_isa",
    "soft_threshold",
    "soft_threshold_",
    "supported_isas",
    "tune",
    "unpack_bits",
    "unpack_mask",
    "warp_boxes",
    "warp_masks",
    "warp_points",
]

# What works on whole models takes longer to import than all the rest: at first use.
_LATER = {
    "densify": "_models.densify",
    "load_packed": "_models.load_packed",
    "pack_model": "_models.pack_model",
    "prune_masks": "_models.prune_masks",
    "quantization_report": "_quantize.report.report",
    "tune": "_linear.tune",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
