"""What the report of a packed model knows of each linear layer: bytes, plan, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop._models.run import Timing


@dataclass(frozen=True)
class Entry:
    """A linear layer, and the other names of it or of its weight."""

    name: str
    tied: tuple[str, ...]
    shape: tuple[int, ...]
    sparsity: float
    dense_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        facts = {"name": self.name, "tied": list(self.tied), "shape": list(self.shape)}
        return {**facts, "sparsity": self.sparsity, "dense_bytes": self.dense_bytes}


@dataclass(frozen=True)
class Converted(Entry):
    """A layer that is packed now."""

    dtype: str
    format: str | None
    activations: str | None
    sqnr: float | None
    saved_bytes: int
    memory_bytes: int
    rows: tuple[int, ...]
    plan: str
    methods: Mapping[str, str]
    timings: Sequence[Timing]
    activation: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            **super().to_dict(),
            "dtype": self.dtype,
            "format": self.format,
            "activations": self.activations,
            "sqnr": self.sqnr,
            "saved_bytes": self.saved_bytes,
            "memory_bytes": self.memory_bytes,
            "rows": list(self.rows),
            "plan": self.plan,
            "methods": dict(self.methods),
            "timings": [timing.to_dict() for timing in self.timings],
            "activation": self.activation,
        }


@dataclass(frozen=True)
class LeftAlone(Entry):
    """A layer that is dense."""

    reason: str
    timings: Sequence[Timing]
    sqnr: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        timings = [timing.to_dict() for timing in self.timings]
        facts = {"reason": self.reason, "sqnr": self.sqnr, "timings": timings}
        return {**super().to_dict(), **facts}


@dataclass(frozen=True, repr=False, eq=False)
class Layers:
    """Every linear layer of a model, and their totals."""

    layers: Sequence[Converted]
    left_alone: Sequence[LeftAlone]

    def totals(self) -> dict[str, Any]:
        """Of all layers that are packed: bytes, and milliseconds for what was timed."""
        timed = [timing for layer in self.layers for timing in layer.timings]
        return {
            "layers": len(self.layers),
            "left_alone": len(self.left_alone),
            "dense_bytes": sum(layer.dense_bytes for layer in self.layers),
            "saved_bytes": sum(layer.saved_bytes for layer in self.layers),
            "memory_bytes": sum(layer.memory_bytes for layer in self.layers),
            "left_alone_bytes": sum(layer.dense_bytes for layer in self.left_alone),
            "sparsity": self._sparsity(),
            "dense_ms": sum(timing.dense_ms for timing in timed) if timed else None,
            "planned_ms": sum(timing.planned_ms for timing in timed) if timed else None,
        }

    def _sparsity(self) -> float:
        sizes = [layer.shape[0] * layer.shape[1] for layer in self.layers]
        pruned = sum(s * layer.sparsity for s, layer in zip(sizes, self.layers, strict=True))
        return pruned / max(sum(sizes), 1)

    def to_dict(self) -> dict[str, Any]:
        """See :meth:`strop.Report.to_dict`."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "left_alone": [layer.to_dict() for layer in self.left_alone],
            "totals": self.totals(),
        }
