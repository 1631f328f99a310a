"""Packs layers, decides which are worth it, and puts them into the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from strop._sparse_pack import pack_sparse
from strop._sparse_weight import SparseWeight
from strop._sparsify_fusion import Fusion
from strop._sparsify_layers import Group, Layer
from strop._sparsify_masks import apply_mask, weight_to_pack
from strop._sparsify_run import Seen, Timing, timings
from strop.nn._sparse_linear import SparseLinear, bias_for, masked, ways

_OP = "strop.sparsify"


@dataclass(frozen=True)
class Options:
    """What holds for every layer."""

    plan: str
    dtype: torch.dtype | None
    only_if_faster: bool
    seen: Mapping[int, Seen] | None
    """By the id of the layer; None where the model was not run."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of the layers that share a weight."""

    group: Group
    weight: SparseWeight | None
    mask: Tensor | None
    rows: tuple[int, ...] = ()
    timings: Sequence[Timing] = ()
    reason: str = ""
    """Why they are left alone; nothing where they are not."""

    @property
    def converted(self) -> bool:
        """Whether they become sparse."""
        return not self.reason


def outcome(
    group: Group, mask: Tensor | None, fusions: Mapping[int, Fusion], options: Options
) -> Outcome:
    """Packs a weight and decides; nothing is changed."""
    if group.alone:
        return Outcome(group, None, mask, reason=group.alone)
    seen = _seen(group, options.seen)
    if options.seen is not None and seen is None:  # (whoever does not call it may read its weight)
        return Outcome(group, None, mask, reason="example_inputs gave it no rows")
    rows = () if seen is None else tuple(sorted(seen.rows))
    try:
        weight = pack_sparse(
            weight_to_pack(group), mask, dtype=options.dtype, rows=rows or None, plan=options.plan
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_OP}: '{group.name}': {error}") from None
    measured: Sequence[Timing] = ()
    if seen is not None and options.plan == "measure":
        fusion = fusions.get(id(group.linear))
        measured = timings(group.linear, weight, seen, fusion.activation if fusion else None)
    reason = _slower(weight, measured) if options.only_if_faster else ""
    return Outcome(group, weight, mask, rows, measured, reason)


def _seen(group: Group, seen: Mapping[int, Seen] | None) -> Seen | None:
    """What the layers of a group were given, together."""
    ids = [id(layer.linear) for layer in group.layers]
    found = [] if seen is None else [seen[i] for i in ids if i in seen]
    if not found:
        return None
    return Seen(sum((one.rows for one in found[1:]), found[0].rows), found[0].dtype)


def _slower(weight: SparseWeight, measured: Sequence[Timing]) -> str:
    """Why dense is the better choice; nothing if it is not."""
    if weight.nnz == weight.shape[0] * weight.shape[1]:
        return "nothing of it is pruned"
    if weight.why in ("table", "measure") and set(ways(weight)) == {"dense"}:
        best = f" ({_best(measured)})" if measured else ""
        return f"dense is faster{best or ', by the table'}"
    if measured and all(one.planned_ms >= one.dense_ms for one in measured):
        return f"dense is faster ({_best(measured)})"
    return ""


def _best(measured: Sequence[Timing]) -> str:
    best = min(measured, key=lambda one: one.planned_ms / max(one.dense_ms, 1e-9))
    return f"measured: {best.dense_ms:.3g} ms for {best.rows} rows"


def convert(model: nn.Module, outcomes: Iterable[Outcome], fusions: Mapping[int, Fusion]) -> None:
    """Changes the model; what could fail comes first."""
    made = [(layer, module) for o in outcomes for layer, module in _modules(o, fusions)]
    for one in outcomes:
        if not one.converted and one.mask is not None:
            apply_mask(one.group, one.mask)
        if not one.converted and not one.group.alone:
            for layer in one.group.layers:
                _settle(layer.linear)
    replace(model, made, fusions)


def replace(
    model: nn.Module, made: Sequence[tuple[Layer, SparseLinear]], fusions: Mapping[int, Fusion]
) -> None:
    """Puts sparse layers where dense ones are."""
    for layer, module in made:
        for place in layer.places:
            place.put(module)
        if module.activation:
            fusions[id(layer.linear)].apply()
    _avoid_fast_paths(model, {id(place.parent) for layer, _ in made for place in layer.places})


def _modules(one: Outcome, fusions: Mapping[int, Fusion]) -> Iterable[tuple[Layer, SparseLinear]]:
    if not one.converted or one.weight is None:
        return
    for layer in one.group.layers:
        fusion = fusions.get(id(layer.linear))
        bias = bias_for(layer.linear, one.weight.dtype)
        module = SparseLinear(one.weight, bias, activation=fusion.activation if fusion else None)
        yield layer, module.train(layer.linear.training)


def _settle(linear: nn.Linear) -> None:
    """Makes masks of ``torch.nn.utils.prune`` zeros, for good."""
    for name in ("weight", "bias"):
        if masked(linear, name):
            prune.remove(linear, name)


def _avoid_fast_paths(model: nn.Module, parents: set[int]) -> None:
    """Torch's encoder layers have a path in eval mode that reads dense weights past their layers."""
    off = set()
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and id(module) in parents:
            module.activation_relu_or_gelu = 0
            off.add(id(module))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(id(x) in off for x in module.layers):
            module.use_nested_tensor = False
