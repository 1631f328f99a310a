"""What became of the linear layers of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from torch import Tensor
from torch.nn.parameter import is_lazy

from strop._core.report import Report, counted
from strop._core.tensors import metadata, unreadable
from strop._linear import plans
from strop._linear.packed_weight import PackedWeight
from strop._models.fusion import Fusion
from strop._models.layers import Layer
from strop._models.linear_kinds import matrix
from strop._models.others import Other
from strop._models.outcome import Outcome
from strop._models.report import picture, table
from strop._models.report.data import Converted, Layers, LeftAlone

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class PackingReport(Layers, Report):
    """These layers as a table and as a picture."""

    def __rich__(self) -> RenderableType:
        return table.table(self)

    def _draw(self, figure: Figure) -> None:
        if not self.layers:
            raise ValueError("strop.Report.plot: no layer became packed; there is nothing to draw")
        picture.draw(self, figure)

    def _summary(self) -> str:
        return f"{counted(len(self.layers), 'layer')} packed, {len(self.left_alone)} left alone"


def report_of(
    outcomes: Iterable[Outcome], fusions: Mapping[int, Fusion], others: Iterable[Other]
) -> PackingReport:
    """The report of what is going to happen to a model."""
    layers, left_alone = [], []
    for one in outcomes:
        if one.converted and one.weight is not None:
            layers.append(_converted(one, one.weight, fusions))
        else:
            facts = _facts(one) | {"timings": one.timings, "sqnr": one.sqnr}
            left_alone.append(LeftAlone(**facts, reason=one.reason))
    return PackingReport(layers, [*left_alone, *map(_other, others)])


def _facts(one: Outcome) -> dict[str, Any]:
    """What an entry begins with."""
    first, *tied = [name for layer in one.group.layers for name in layer.names]
    layer = one.group.layers[0]
    return {
        "name": first or "the model",
        "tied": tuple(tied),
        "shape": layer.shape,
        "sparsity": _sparsity(one),
        "dense_bytes": _dense_bytes(layer),
    }


def _dense_bytes(layer: Layer) -> int:
    rows, columns = layer.shape
    if layer.packed_linear is not None:
        return rows * columns * layer.packed_linear.packed.input_dtype.itemsize
    if layer.foreign is not None and layer.foreign.weight is not None:
        return rows * columns * layer.foreign.weight.dtype.itemsize
    weight = layer.parameter
    return 0 if weight is None or is_lazy(weight) else metadata(weight)[2]


def _sparsity(one: Outcome) -> float:
    if one.weight is not None:
        return one.weight.sparsity
    if one.mask is not None:
        return 1 - int(one.mask.count_nonzero()) / max(one.mask.numel(), 1)
    layer = one.group.layers[0]
    if layer.packed_linear is not None:
        return layer.packed_linear.packed.sparsity
    weight = None if layer.foreign else layer.parameter
    readable = weight is not None and not unreadable(weight)
    return _zeros(matrix(layer.linear)) if readable else 0.0


def _zeros(weight: Tensor) -> float:
    """The share of weights that are zero; none where torch cannot count them, as in floats of 8 bits."""
    try:
        return 1 - int(weight.count_nonzero()) / max(weight.numel(), 1)
    except (NotImplementedError, RuntimeError):
        return 0.0


def _other(one: Other) -> LeftAlone:
    shape, _, size = metadata(one.parameter)
    return LeftAlone(
        name=one.names[0],
        tied=one.names[1:],
        shape=shape,
        sparsity=0.0 if unreadable(one.parameter) else _zeros(one.parameter.detach()),
        dense_bytes=size,
        reason=one.reason,
        timings=(),
    )


def _converted(one: Outcome, weight: PackedWeight, fusions: Mapping[int, Fusion]) -> Converted:
    methods = dict(zip(plans.row_labels(), weight.method_names(), strict=True))
    fused = [fusions[id(x.linear)].activation for x in one.group.layers if id(x.linear) in fusions]
    fused += [
        x.packed_linear.activation
        for x in one.group.layers
        if x.packed_linear and x.packed_linear.activation
    ]
    return Converted(
        **_facts(one),
        dtype=str(weight.dtype).removeprefix("torch."),
        format=weight.format,
        activations=weight.activations or None,
        sqnr=one.sqnr,
        saved_bytes=sum(tensor.nbytes for tensor in weight.state_dict().values()),
        memory_bytes=weight.nbytes,
        rows=one.rows,
        plan=weight.plan_source,
        methods=methods,
        timings=one.timings,
        activation=fused[0] if fused else None,
    )
