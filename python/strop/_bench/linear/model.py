"""Cases of a whole model: MiniLM pruned layer by layer, against itself in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import strop
from strop._bench.case import Call, Case, faster_than, register
from strop._bench.linear import minilm

SPARSITY = 0.9
WHOLE = {1: 2.5, 16: 2.7}  # batch: what is promised over the same model in torch
LINEARS = 6.0  # and of its linear layers by themselves


def calling(model: nn.Module, tokens: Tensor) -> Call:
    """A call of a model as one serves it."""

    def call() -> Tensor:
        with torch.inference_mode():
            found: Tensor = model(tokens)
        return found

    return call


def packed(model: nn.Module, tokens: Tensor) -> nn.Module:
    """The pruned model with its linear layers replaced, planned for what these tokens ask of them."""
    strop.pack_model(model, (tokens,))
    return model


def whole(batch: int) -> Mapping[str, Callable[[], Call]]:
    """The model as it is, and with its layers replaced."""
    tokens = minilm.sentences(batch)
    dense = minilm.pruned_encoder(SPARSITY)
    return {
        "strop": lambda: calling(packed(minilm.pruned_encoder(SPARSITY), tokens), tokens),
        "torch dense": lambda: calling(dense, tokens),
    }


def alone(batch: int) -> Mapping[str, Callable[[], Call]]:
    """Its linear layers one after the other, each on input of its own width."""
    layers = list(minilm.linears(minilm.pruned_encoder(SPARSITY)).values())
    rows = batch * 128
    inputs = {k: torch.randn(rows, k) for k in {layer.in_features for layer in layers}}

    def every(layers: list[nn.Module], widths: list[int]) -> Call:
        @torch.inference_mode()
        def call() -> None:
            for layer, width in zip(layers, widths, strict=True):
                layer(inputs[width])

        return call

    widths = [layer.in_features for layer in layers]
    return {
        "strop": lambda: every(
            [strop.nn.PackedLinear.from_dense(layer, rows=rows) for layer in layers], widths
        ),
        "torch dense": lambda: every([*layers], widths),
    }


def model_name(batch: int, sparsity: float = SPARSITY) -> str:
    """The name of a whole model's case."""
    pruned = f"{sparsity:.0%} pruned" if sparsity else "not pruned"
    return f"MiniLM, {pruned}, {batch} x 128 tokens"


def _register(batch: int, promised: float) -> None:
    name = model_name(batch)
    bars = (faster_than("torch dense", promised),)
    register(Case("masked", name, lambda: whole(batch), bars=bars))
    bars = (faster_than("torch dense", LINEARS),)
    register(Case("masked", f"{name}: its 36 linears", lambda: alone(batch), bars=bars))


for _batch, _promised in WHOLE.items():
    _register(_batch, _promised)
