"""Packs layers, and decides which are worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from strop._linear.pack import pack_sparse
from strop._linear.sparse_weight import SparseWeight
from strop._models.fusion import Fusion
from strop._models.layers import Group
from strop._models.linear_kinds import matrix
from strop._models.run import Observed, Seen, Timing, timings
from strop._prune.prune_mask import unpack_mask
from strop.nn import SparseLinear
from strop.nn._sparse_linear import ways

_OP = "strop.sparsify"


@dataclass(frozen=True)
class Options:
    """What holds for every layer."""

    plan: str | None
    dtype: torch.dtype | None
    only_if_faster: bool
    observed: Observed | None
    """None where the model was not run."""

    def plan_of(self, sparse: SparseLinear | None) -> str:
        """How ways are chosen; a layer that is sparse already keeps its plan where none is named."""
        if self.plan is not None:
            return self.plan
        tells = "table" if self.observed is None else "measure"
        if sparse is not None:
            why = sparse.packed.plan_source
            return tells if why == "measure" else why
        return tells if self.only_if_faster else "sparse"


@dataclass(frozen=True)
class Outcome:
    """What becomes of the layers that share a weight."""

    group: Group
    weight: SparseWeight | None
    mask: Tensor | None
    """Of the parameter's shape."""
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
    observed = options.observed
    seen = None if observed is None else _seen(group, observed.seen)
    reason = group.alone or group.on_meta
    if observed is not None and not reason:  # (whoever does not call it may read its weight)
        reason = "example_inputs gave it no rows" if seen is None else _read(group, observed.read)
    if reason:
        return Outcome(group, None, mask, reason=reason)
    rows = () if seen is None else tuple(sorted(seen.rows))
    plan = options.plan_of(group.sparse)
    kept = mask.t() if mask is not None and group.transposed else mask
    try:
        if group.sparse is not None:
            weight = _pruned_further(group.sparse, kept, rows, plan, options.dtype)
        else:
            weight = _packed(group, kept, rows, plan, options.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_OP}: '{group.name}': {error}") from None
    if weight is None:
        further = (
            "nothing more of it is pruned" if mask is not None else "sparsity or masks prune more"
        )
        return Outcome(group, None, None, rows, reason=f"it is sparse already; {further}")
    measured: Sequence[Timing] = ()
    if seen is not None and plan == "measure":
        measured = timings(group.linear, weight, seen, _activation(group, fusions))
    decides = options.only_if_faster and group.sparse is None
    return Outcome(
        group, weight, mask, rows, measured, _slower(weight, measured) if decides else ""
    )


def _packed(
    group: Group, mask: Tensor | None, rows: Sequence[int], plan: str, dtype: torch.dtype | None
) -> SparseWeight:
    return pack_sparse(matrix(group.linear), mask, dtype=dtype, rows=rows or None, plan=plan)


def _pruned_further(
    layer: SparseLinear,
    mask: Tensor | None,
    rows: Sequence[int],
    plan: str,
    dtype: torch.dtype | None,
) -> SparseWeight | None:
    """The weight of a sparse layer where it changes: what was pruned stays so."""
    before = layer.packed
    kept = before_kept = unpack_mask(before.bits, before.shape[1])
    if mask is not None:
        kept = before_kept & mask.to(before.device)
    same = plan == before.plan_source and dtype in (None, before.dtype)
    if same and torch.equal(kept, before_kept):
        return None
    dense, dtype = before.to_dense(), dtype or before.dtype
    backward = before.back_quads is not None
    made = pack_sparse(
        dense.to(before.input_dtype),
        kept,
        dtype=dtype,
        rows=rows or None,
        plan=plan,
        backward=backward,
    )
    values = dense[kept].to(dtype)
    if made.dtype != dtype or torch.equal(made.values, values):
        return made
    return SparseWeight.prepared(  # values of more digits than the model's dtype has
        made.bits,
        values,
        made.shape,
        methods=made.methods,
        plan_source=made.plan_source,
        backward=made.back_quads is not None,
        input_dtype=made.input_dtype,
    )


def _activation(group: Group, fusions: Mapping[int, Fusion]) -> str | None:
    if group.sparse is not None:
        return group.sparse.activation
    fusion = fusions.get(id(group.linear))
    return fusion.activation if fusion else None


def _seen(group: Group, seen: Mapping[int, Seen]) -> Seen | None:
    """What the layers of a group were given, together."""
    ids = [id(layer.linear) for layer in group.layers]
    found = [seen[i] for i in ids if i in seen]
    if not found:
        return None
    return Seen(sum((one.rows for one in found[1:]), found[0].rows), found[0].dtype)


def _read(group: Group, read: Mapping[int, str]) -> str:
    """Why a weight has to stay; nothing where it has not."""
    found = (read.get(id(layer.linear), "") for layer in group.layers)
    return next((why for why in found if why), "")


def _slower(weight: SparseWeight, measured: Sequence[Timing]) -> str:
    """Why dense is the better choice; nothing if it is not."""
    if weight.nnz == weight.shape[0] * weight.shape[1]:
        return "nothing of it is pruned"
    if weight.plan_source in ("table", "measure") and set(ways(weight)) == {"dense"}:
        best = f" ({_best(measured)})" if measured else ""
        return f"dense is faster{best or ', by the table'}"
    if measured and all(one.planned_ms >= one.dense_ms for one in measured):
        return f"dense is faster ({_best(measured)})"
    return ""


def _best(measured: Sequence[Timing]) -> str:
    best = min(measured, key=lambda one: one.planned_ms / max(one.dense_ms, 1e-9))
    return f"measured: {best.dense_ms:.3g} ms for {best.rows} rows"
