"""What a way of quantizing costs: bytes, error of weights and embeddings, and time beside peers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from .model import PAIRS, SentenceModel
from .part import DemoError
from .quantize_setting import Pass, Setting, eager_into_pass, eager_pass, strop_pass, torch_pass

ROUNDS = 7


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Attributes:
        setting: what was measured.
        megabytes: of the quantized weights, in millions of bytes.
        bits_per_weight: with scales and zero points.
        sqnr: power of the weights over power of their error, in dB.
        cosine_mean: of the sentences' embeddings with the original model's.
        cosine_min: of the sentence that changed most.
        pair_change: the largest change of a pair's similarity.
        milliseconds: the median of a pass over all weights, by contender; torch's own op is there
            only where it can do the same.

    """

    setting: Setting
    megabytes: float
    bits_per_weight: float
    sqnr: float
    cosine_mean: float
    cosine_min: float
    pair_change: float
    milliseconds: dict[str, float]

    def ratio(self, contender: str) -> float:
        """How many times strop's time a contender takes."""
        return self.milliseconds[contender] / self.milliseconds["strop"]


class Bench:
    """The original model's weights and embeddings, against which each setting is measured."""

    def __init__(self, model: SentenceModel) -> None:
        """Embeds the sentences with the original weights."""
        self._model = model
        self._sentences = [sentence for pair in PAIRS for sentence in pair]
        self._names = list(model.linear_weights)
        self.weights: list[Tensor] = list(model.linear_weights.values())
        self._power = sum(float(weight.double().square().sum()) for weight in self.weights)
        self._embeddings = model.embed(self._sentences)
        self.similarities: Tensor = pair_similarities(self._embeddings)

    @property
    def weight_count(self) -> int:
        """The number of weights that are quantized."""
        return sum(weight.numel() for weight in self.weights)

    def measure(self, setting: Setting) -> Result:
        """Measures one setting.

        Raises:
            DemoError: strop's result differs from that of eager torch or of torch's own op.

        """
        passes = contenders(self.weights, setting)
        quantized = passes["strop"]()
        for name, one_pass in passes.items():
            require_equal(setting, name, quantized, one_pass())
        stored = sum(setting.stored_bytes(weight) for weight in self.weights)
        embeddings = self._model.embed(
            self._sentences, dict(zip(self._names, quantized, strict=True))
        )
        cosines = (embeddings * self._embeddings).sum(1)
        changes = (pair_similarities(embeddings) - self.similarities).abs()
        return Result(
            setting=setting,
            megabytes=stored / 1e6,
            bits_per_weight=8 * stored / self.weight_count,
            sqnr=self._sqnr(quantized),
            cosine_mean=float(cosines.mean()),
            cosine_min=float(cosines.min()),
            pair_change=float(changes.max()),
            milliseconds=time_in_turns(passes),
        )

    def _sqnr(self, quantized: list[Tensor]) -> float:
        """Signal to quantization noise over all weights together, in dB."""
        noise = sum(
            float((weight - result).double().square().sum())
            for weight, result in zip(self.weights, quantized, strict=True)
        )
        return 10 * float(torch.log10(torch.tensor(self._power / noise)))


def pair_similarities(embeddings: Tensor) -> Tensor:
    """The cosine of each pair; the sentences of a pair are neighbours."""
    return (embeddings[0::2] * embeddings[1::2]).sum(1)


def contenders(weights: list[Tensor], setting: Setting) -> dict[str, Pass]:
    """Everything that can do the same work, by name."""
    passes = {
        "strop": strop_pass(weights, setting),
        "eager": eager_pass(weights, setting),
        "eager into": eager_into_pass(weights, setting),
    }
    own = torch_pass(weights, setting)
    if own is not None:
        passes["torch"] = own
    return passes


def require_equal(setting: Setting, name: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Raises DemoError unless all results are equal to the bit."""
    for our, their in zip(ours, theirs, strict=True):
        if not torch.equal(our.view(torch.int32), their.view(torch.int32)):
            difference = float((our - their).abs().max())
            raise DemoError(f"{setting}: strop and {name} differ by up to {difference:.3g}")


def time_in_turns(passes: dict[str, Pass]) -> dict[str, float]:
    """Median milliseconds of each pass; all take turns, and a different one begins each round."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    names = list(passes)
    for turn in range(ROUNDS):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin = perf_counter()
            passes[name]()
            times[name].append(1e3 * (perf_counter() - begin))
    return {name: median(taken) for name, taken in times.items()}
