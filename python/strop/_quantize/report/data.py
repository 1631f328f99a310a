"""The figures of a quantization report: bytes and noise, of each weight in each format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop._quantize.report.choices import Choice
from strop._quantize.storage import StoredBytes


@dataclass(frozen=True)
class Loss:
    """What a format makes of a weight, or of all of them."""

    size: StoredBytes
    signal: float  # the sum of the squared weights
    noise: float  # the sum of the squared differences

    @property
    def sqnr(self) -> float:
        """In dB: Inf where the weights stay as they are, NaN where they are not finite."""
        if self.noise == 0:
            return math.inf
        ratio = self.signal / self.noise
        return -math.inf if ratio == 0 else 10 * math.log10(ratio)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "bytes": self.size.total,
            "code_bytes": self.size.codes,
            "scale_bytes": self.size.scales + self.size.tensor_scale,
            "zero_point_bytes": self.size.zero_points,
            "sqnr_db": _finite(self.sqnr),
            "noise": _finite(self.noise),
        }


@dataclass(frozen=True)
class Entry:
    """A tensor of the model, and the other names that it has there."""

    name: str
    tied: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    size: int  # bytes

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        facts = {"name": self.name, "tied": list(self.tied), "shape": list(self.shape)}
        return {**facts, "dtype": self.dtype, "bytes": self.size}


@dataclass(frozen=True)
class LeftAlone(Entry):
    """A tensor that was not quantized."""

    reason: str
    unreadable: bool  # a weight it may be, but not in numbers that strop reads

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**super().to_dict(), "reason": self.reason}


@dataclass(frozen=True)
class Weight(Entry):
    """A tensor that was quantized, as a matrix."""

    matrix: tuple[int, int]
    losses: Mapping[str, Loss]  # by the label of the format

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        signal = next(iter(self.losses.values())).signal
        facts = {**super().to_dict(), "matrix": list(self.matrix), "signal": _finite(signal)}
        return {**facts, "formats": {k: loss.to_dict() for k, loss in self.losses.items()}}


@dataclass(frozen=True, repr=False, eq=False)
class Losses:
    """Of every weight in every format, and of them all."""

    choices: Sequence[Choice]
    weights: Sequence[Weight]
    left_alone: Sequence[LeftAlone]

    @property
    def weight_size(self) -> int:
        """Bytes of the original weights."""
        return sum(weight.size for weight in self.weights)

    @property
    def left_alone_size(self) -> int:
        """Bytes of everything else, in every format the same."""
        return sum(entry.size for entry in self.left_alone)

    @property
    def model_size(self) -> int:
        """Bytes of the original model."""
        return self.weight_size + self.left_alone_size

    def total(self, label: str) -> Loss:
        """Of all weights in a format."""
        losses = [weight.losses[label] for weight in self.weights]
        size = StoredBytes(
            sum(loss.size.codes for loss in losses),
            sum(loss.size.scales for loss in losses),
            sum(loss.size.zero_points for loss in losses),
            sum(loss.size.tensor_scale for loss in losses),
        )
        return Loss(size, sum(x.signal for x in losses), sum(x.noise for x in losses))

    def ratio(self, label: str) -> float:
        """How many times smaller a format makes the model."""
        size = self.total(label).size.total + self.left_alone_size
        return self.model_size / size if size else 1.0

    def _total_dict(self, label: str) -> dict[str, Any]:
        total = self.total(label)
        size = total.size.total
        return {
            **total.to_dict(),
            "ratio": self.weight_size / size if size else 1.0,
            "model_bytes": size + self.left_alone_size,
            "model_ratio": self.ratio(label),
        }

    def to_dict(self) -> dict[str, Any]:
        """See :meth:`strop.Report.to_dict`."""
        return {
            "formats": [choice.to_dict() for choice in self.choices],
            "weights": [weight.to_dict() for weight in self.weights],
            "left_alone": [entry.to_dict() for entry in self.left_alone],
            "totals": {
                "bytes": self.weight_size,
                "left_alone_bytes": self.left_alone_size,
                "model_bytes": self.model_size,
                "formats": {c.label: self._total_dict(c.label) for c in self.choices},
            },
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
