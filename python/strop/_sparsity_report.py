"""What became of the linear layers of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from torch import Tensor
from torch.nn.parameter import is_lazy

from strop import _sparse_plan, _sparsity_picture, _sparsity_table
from strop._core.tensors import facts, unreadable
from strop._linear_kinds import matrix
from strop._report import Report, counted
from strop._sparse_weight import SparseWeight
from strop._sparsify_fusion import Fusion
from strop._sparsify_others import Other
from strop._sparsify_outcome import Outcome
from strop._sparsify_run import Timing
from strop.nn._sparse_linear import ways

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """A layer that is sparse now."""

    dtype: str
    saved_bytes: int
    memory_bytes: int
    rows: tuple[int, ...]
    plan: str
    ways: Mapping[str, str]
    timings: Sequence[Timing]
    activation: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            **super().to_dict(),
            "dtype": self.dtype,
            "saved_bytes": self.saved_bytes,
            "memory_bytes": self.memory_bytes,
            "rows": list(self.rows),
            "plan": self.plan,
            "ways": dict(self.ways),
            "timings": [timing.to_dict() for timing in self.timings],
            "activation": self.activation,
        }


@dataclass(frozen=True)
class LeftAlone(Entry):
    """A layer that is dense."""

    reason: str
    timings: Sequence[Timing]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        timings = [timing.to_dict() for timing in self.timings]
        return {**super().to_dict(), "reason": self.reason, "timings": timings}


@dataclass(frozen=True, repr=False, eq=False)
class SparsityReport(Report):
    """Every linear layer of a model."""

    layers: Sequence[Converted]
    left_alone: Sequence[LeftAlone]

    def totals(self) -> dict[str, Any]:
        """Of all layers that are sparse: bytes, and milliseconds for what was timed."""
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

    def __rich__(self) -> RenderableType:
        return _sparsity_table.table(self)

    def _draw(self, figure: Figure) -> None:
        if not self.layers:
            raise ValueError("strop.Report.plot: no layer became sparse; there is nothing to draw")
        _sparsity_picture.draw(self, figure)

    def _summary(self) -> str:
        return f"{counted(len(self.layers), 'layer')} sparse, {len(self.left_alone)} left alone"


def report_of(
    outcomes: Iterable[Outcome], fusions: Mapping[int, Fusion], others: Iterable[Other]
) -> SparsityReport:
    """The report of what is going to happen to a model."""
    layers, left_alone = [], []
    for one in outcomes:
        if one.converted and one.weight is not None:
            layers.append(_converted(one, one.weight, fusions))
        else:
            left_alone.append(LeftAlone(**_facts(one), reason=one.reason, timings=one.timings))
    return SparsityReport(layers, [*left_alone, *map(_other, others)])


def _facts(one: Outcome) -> dict[str, Any]:
    """What an entry begins with."""
    first, *tied = [name for layer in one.group.layers for name in layer.names]
    layer = one.group.layers[0]
    weight, size = layer.parameter, 0
    if layer.sparse is not None:
        size = layer.sparse.packed.input_dtype.itemsize
    elif weight is not None and not is_lazy(weight):
        size = facts(weight)[1].itemsize
    shape = layer.shape
    return {
        "name": first or "the model",
        "tied": tuple(tied),
        "shape": shape,
        "sparsity": _sparsity(one),
        "dense_bytes": shape[0] * shape[1] * size,
    }


def _sparsity(one: Outcome) -> float:
    if one.weight is not None:
        return one.weight.sparsity
    if one.mask is not None:
        return 1 - int(one.mask.count_nonzero()) / max(one.mask.numel(), 1)
    layer = one.group.layers[0]
    if layer.sparse is not None:
        return layer.sparse.packed.sparsity
    weight = layer.parameter
    readable = weight is not None and not unreadable(weight)
    return _zeros(matrix(layer.linear)) if readable else 0.0


def _zeros(weight: Tensor) -> float:
    """The share of weights that are zero; none where torch cannot count them, as in floats of 8 bits."""
    try:
        return 1 - int(weight.count_nonzero()) / max(weight.numel(), 1)
    except (NotImplementedError, RuntimeError):
        return 0.0


def _other(one: Other) -> LeftAlone:
    shape, _, size = facts(one.parameter)
    return LeftAlone(
        name=one.names[0],
        tied=one.names[1:],
        shape=shape,
        sparsity=0.0 if unreadable(one.parameter) else _zeros(one.parameter.detach()),
        dense_bytes=size,
        reason=one.reason,
        timings=(),
    )


def _converted(one: Outcome, weight: SparseWeight, fusions: Mapping[int, Fusion]) -> Converted:
    labels = _sparse_plan.row_labels()
    fused = [fusions[id(x.linear)].activation for x in one.group.layers if id(x.linear) in fusions]
    fused += [x.sparse.activation for x in one.group.layers if x.sparse and x.sparse.activation]
    return Converted(
        **_facts(one),
        dtype=str(weight.dtype).removeprefix("torch."),
        saved_bytes=sum(tensor.nbytes for tensor in weight.state_dict().values()),
        memory_bytes=weight.nbytes,
        rows=one.rows,
        plan=weight.why,
        ways=dict(zip(labels, ways(weight), strict=True)),
        timings=one.timings,
        activation=fused[0] if fused else None,
    )
