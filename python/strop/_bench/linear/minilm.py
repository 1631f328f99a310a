"""The encoder of all-MiniLM-L6-v2 in plain torch: a whole model to measure pruned layers in.

Its weights are drawn by chance, for the time of a pruned layer is a matter of how many are left. The true
ones can be had from a checkpoint of transformers (:func:`from_transformers`), and then it computes what
transformers' model does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

import strop

WIDTH, WIDE, HEADS, LAYERS, WORDS, LONGEST = 384, 1536, 12, 6, 30522, 512

# Where a transformers BertModel has what an Encoder names on the left.
_THEIRS = {
    "words": "embeddings.word_embeddings",
    "places": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "widen.0": "intermediate.dense",
    "narrow": "output.dense",
    "narrow_norm": "output.LayerNorm",
}


class Layer(nn.Module):
    """One layer of BERT: attention, then two linears with GELU between them, each normed after."""

    def __init__(self, width: int, wide: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended, self.attended_norm = nn.Linear(width, width), nn.LayerNorm(width, 1e-12)
        self.widen = nn.Sequential(nn.Linear(width, wide), nn.GELU())
        self.narrow = nn.Linear(wide, width)
        self.narrow_norm = nn.LayerNorm(width, 1e-12)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[batch, tokens, width] to the same; mask [batch, 1, 1, tokens], True where a token is."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        heard = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.attended_norm(x + self.attended(heard.transpose(1, 2).flatten(2)))
        y: Tensor = self.narrow_norm(x + self.narrow(self.widen(x)))
        return y


class Encoder(nn.Module):
    """BERT's encoder without its pooler, by default of all-MiniLM-L6-v2's size."""

    def __init__(
        self,
        *,
        width: int = WIDTH,
        wide: int = WIDE,
        heads: int = HEADS,
        layers: int = LAYERS,
        words: int = WORDS,
    ) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(LONGEST, width)
        self.segments, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, 1e-12)
        self.layers = nn.ModuleList(Layer(width, wide, heads) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Hidden states [batch, tokens, width] of token numbers [batch, tokens].

        ``mask`` has their shape and is true where a token is; None: everywhere.
        """
        places, segment = self.places.weight[: tokens.shape[1]], self.segments.weight[0]
        x: Tensor = self.norm(self.words(tokens) + places + segment)
        seen = None if mask is None else mask.bool()[:, None, None]
        for layer in self.layers:
            x = layer(x, seen)
        return x


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An Encoder's state dict from a BertModel's; its pooler and buffers are left out."""
    ours = {theirs: name for name, theirs in _THEIRS.items()}
    found = {}
    for key, value in weights.items():
        match = re.fullmatch(r"(?:encoder\.layer\.(\d+)\.)?(.+)\.(weight|bias)", key)
        if match and match[2] in ours:
            where = "" if match[1] is None else f"layers.{match[1]}."
            found[f"{where}{ours[match[2]]}.{match[3]}"] = value
    return found


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """A model's linear layers by their names."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def prune(model: nn.Module, sparsity: float) -> None:
    """Sets the smallest weights of every linear layer to zero, layer by layer."""
    with torch.no_grad():
        for layer in linears(model).values():
            layer.weight.masked_fill_(~strop.prune_mask(layer.weight, sparsity=sparsity), 0)


def pruned_encoder(sparsity: float) -> Encoder:
    """An encoder of random weights, pruned; the same one each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = Encoder().eval()
    prune(model, sparsity)
    return model


def sentences(batch: int, tokens: int = 128) -> Tensor:
    """Token numbers [batch, tokens], the same ones each time."""
    return torch.randint(WORDS, (batch, tokens), generator=torch.Generator().manual_seed(batch))
