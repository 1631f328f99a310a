"""Cases of weights in codes: against torch's dense layers, its dynamic ones, and its packed products."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

import strop
from strop._bench.case import Call, Case, faster_than, register
from strop._bench.linear import dense
from strop._linear import dense_ways
from strop._linear.coded_weight import CodedWeight

_FAR = 256 << 20  # bytes of weights that take turns, so that each comes from memory
_GROUP = 64
PACKED: dict[str, dict[str, Any]] = {
    "int8+int8": {"format": "int8", "activations": "int8"},
    "int8+uint8": {"format": "int8", "activations": "uint8"},
    "int4": {"format": "int4", "block_size": (1, _GROUP)},
    "int4+int8": {"format": "int4", "block_size": (1, _GROUP), "activations": "int8"},
    "nf4": {"format": "nf4", "block_size": (1, _GROUP)},
    "mxfp4": {"format": "mxfp4"},
    "float8_e4m3fn": {"format": "float8_e4m3fn"},
}


def _in_turns(function: Callable[[Any], object], weights: list[Any]) -> Call:
    """A call that takes another copy of the weight each time."""
    copies = itertools.cycle(weights)
    return lambda: function(next(copies))


def _copies(tensor: Tensor) -> list[Tensor]:
    return [tensor.clone() for _ in range(max(_FAR // max(tensor.nbytes, 1), 1))]


def _packed(x: Tensor, weight: Tensor, options: Mapping[str, Any]) -> Callable[[], Call]:
    def make() -> Call:
        w = cast(CodedWeight, strop.pack_weight(weight, **options))
        layouts = _copies(w.layout) if w.layout is not None else []
        return _in_turns(
            lambda held: strop.packed_linear(x, held), [w._with({"layout": t}) for t in layouts]
        )

    return make


def _peers(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Call]]:
    n, k = weight.shape

    def plain() -> Call:
        return _in_turns(lambda w: torch.nn.functional.linear(x, w), _copies(weight))

    def prepacked() -> Call:
        held = [dense_ways.prepacked(w) for w in _copies(weight)]
        return _in_turns(lambda w: dense_ways.product(x, w, None, None), held)

    def dynamic() -> Call:
        linear = torch.nn.Linear(k, n, bias=False)
        linear.weight.data = weight
        layers = [
            torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(linear), dtype=torch.qint8)
            for _ in range(max(_FAR // (n * k), 1))
        ]
        return _in_turns(lambda layer: layer(x), layers)

    def int8pack() -> Call:
        short, scale = x.bfloat16(), torch.ones(n, dtype=torch.bfloat16)
        codes = _copies(torch.zeros(n, k, dtype=torch.int8))
        return _in_turns(lambda w: torch._weight_int8pack_mm(short, w, scale), codes)

    def int4pack() -> Call:
        short, numbers = x.bfloat16(), torch.ones(k // _GROUP, n, 2, dtype=torch.bfloat16)
        codes = torch.zeros(n, k, dtype=torch.int32)
        held = _copies(torch._convert_weight_to_int4pack_for_cpu(codes, 1))
        product = torch._weight_int4pack_mm_for_cpu
        return _in_turns(lambda w: product(short, w, _GROUP, numbers), held)

    return {
        dense.TORCH: plain,
        dense.PREPACKED: prepacked,
        "torch dynamic int8": dynamic,
        "torch int8pack_mm": int8pack,
        "torch int4pack_mm": int4pack,
    }


def _case(rows: int, k: int, n: int, name: str, promised: Mapping[str, float]) -> None:
    def make() -> Mapping[str, Callable[[], Call]]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(n, k, generator=generator)
        x = torch.randn(rows, k, generator=generator)
        peers = _peers(x, weight)
        return {"strop": _packed(x, weight, PACKED[name])} | {
            peer: peers[peer] for peer in promised
        }

    bars = tuple(faster_than(peer, ratio) for peer, ratio in promised.items())
    register(Case("linear", f"{name}: {rows} x {k} by [{n}, {k}]", make, bars=bars))


# What is promised where AVX2 is the best set.
_BYTES = {"torch dynamic int8": 1.3, "torch int8pack_mm": 1.3, "torch dense": 1.0}
_case(1, 4096, 4096, "int8+int8", _BYTES)
_case(1, 4096, 4096, "int8+uint8", _BYTES)
_case(32, 4096, 4096, "int8+int8", {"torch dynamic int8": 1.5, "oneDNN prepacked": 1.0})
_case(128, 768, 3072, "int8+int8", {"torch dynamic int8": 1.0, "oneDNN prepacked": 1.0})
_case(1024, 768, 3072, "int8+int8", {"torch dynamic int8": 1.0, "oneDNN prepacked": 0.95})
_NIBBLES = {"torch int4pack_mm": 1.6, "torch dense": 4.3, "oneDNN prepacked": 4.3}
_case(1, 4096, 4096, "int4", _NIBBLES)
_case(1, 4096, 4096, "nf4", _NIBBLES)
_case(1, 4096, 4096, "mxfp4", _NIBBLES)
_case(1, 4096, 4096, "float8_e4m3fn", {"torch int8pack_mm": 1.0, "torch dense": 1.0})
_case(1, 4096, 4096, "int4+int8", {"torch int4pack_mm": 2.4})
_MANY = {"torch dense": 0.97, "oneDNN prepacked": 0.97}
for _rows in (8, 32, 128):
    _case(_rows, 4096, 4096, "int4", _MANY)
_case(1024, 768, 3072, "int4", {"torch dense": 0.92, "oneDNN prepacked": 0.92})
