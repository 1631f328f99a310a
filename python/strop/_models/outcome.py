"""Packs layers, and decides which are worth it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from strop._linear.masked_weight import MaskedWeight
from strop._linear.pack_weight import pack_weight
from strop._linear.packed_weight import PackedWeight
from strop._models.errors import Sums, signal_to_noise
from strop._models.foreign import Foreign, multiplied_as_integers
from strop._models.fusion import Fusion
from strop._models.layers import Group
from strop._models.linear_kinds import matrix
from strop._models.options import Options
from strop._models.run import Observed, Seen, Timing
from strop._prune.prune_mask import unpack_mask
from strop._quantize.formats import NumberFormat
from strop._quantize.quantized_tensor import QuantizedTensor

_OP = "strop.pack_model"


@dataclass(frozen=True)
class Outcome:
    """What becomes of the layers that share a weight."""

    group: Group
    weight: PackedWeight | None
    mask: Tensor | None
    """Of the parameter's shape."""
    rows: tuple[int, ...] = ()
    timings: Sequence[Timing] = ()
    reason: str = ""
    """Why they are left alone; nothing where they are not."""
    sqnr: float | None = None
    """Of their results on example_inputs, in dB."""

    @property
    def converted(self) -> bool:
        """Whether they become packed."""
        return not self.reason


def outcome(
    group: Group,
    mask: Tensor | None,
    fusions: Mapping[int, Fusion],
    options: Options,
    observed: Observed | None,
) -> Outcome:
    """Packs a weight and decides; nothing is changed.

    Args:
        group: the layers that share it.
        mask: of the parameter's shape.
        fusions: activations that may become a part of a layer, by its id.
        options: of the group.
        observed: None where the model was not run.

    """
    seen = None if observed is None else _seen(group, observed.seen)
    reason = group.alone or group.on_meta or ("the recipe leaves it alone" if options.skip else "")
    if observed is not None and not reason:  # (whoever does not call it may read its weight)
        reason = "example_inputs gave it no rows" if seen is None else _read(group, observed.read)
    if reason:
        return Outcome(group, None, mask, reason=reason)
    rows = () if seen is None else tuple(sorted(seen.rows))
    kept = mask.t() if mask is not None and group.transposed else mask
    plan = _plan_of(options, group, observed is not None)
    try:
        weight = _packed(group, kept, rows, plan, options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_OP}: '{group.name}': {error}") from None
    if isinstance(weight, str):
        return Outcome(group, None, None, rows, reason=weight)
    measured: Sequence[Timing] = ()
    if observed is not None and seen is not None and plan == "measure":
        measured = observed.timings(group.layers[0], weight, seen, _activation(group, fusions))
    decides = options.only_if_faster and group.packed_linear is None
    return Outcome(
        group, weight, mask, rows, measured, _slower(weight, measured) if decides else ""
    )


def with_errors(
    outcomes: Iterable[Outcome],
    model: nn.Module,
    example_inputs: object,
    least: Mapping[int, float | None],
) -> list[Outcome]:
    """These with the errors of their results; those stay that keep no more than the least, by the group's id."""
    outcomes = list(outcomes)
    layers = [
        (layer.linear, one.weight)
        for one in outcomes
        if one.converted and one.weight is not None
        for layer in one.group.layers
    ]
    sums = signal_to_noise(model, example_inputs, layers)
    return [_judged(one, sums, least.get(id(one.group))) for one in outcomes]


def _judged(one: Outcome, sums: Mapping[int, Sums], least: float | None) -> Outcome:
    found = [sums[id(layer.linear)].sqnr for layer in one.group.layers if id(layer.linear) in sums]
    if not found:
        return one
    sqnr = min(found)
    if least is None or sqnr >= least:
        return dataclasses.replace(one, sqnr=sqnr)
    reason = f"its results would keep {sqnr:.1f} dB, less than min_sqnr"
    return dataclasses.replace(one, weight=None, mask=None, sqnr=sqnr, reason=reason)


def _plan_of(options: Options, group: Group, observed: bool) -> str:
    """How methods are chosen; a layer that is packed already keeps its plan where none is named."""
    if options.plan is not None:
        return options.plan
    tells = "measure" if observed else "auto"
    packed = group.packed_linear and group.packed_linear.packed
    if isinstance(packed, MaskedWeight):
        return tells if packed.plan_source == "measure" else packed.plan_source
    return tells if options.only_if_faster else "packed"


def _packed(
    group: Group, mask: Tensor | None, rows: Sequence[int], plan: str, options: Options
) -> PackedWeight | str:
    """The weight; or why it stays."""
    if group.packed_linear is not None:
        return _packed_further(group.packed_linear.packed, mask, rows, plan, options)
    foreign = group.layers[0].foreign
    if foreign is not None and foreign.weight is not None:
        activations = _activations(foreign, foreign.weight, options)
        return pack_weight(
            foreign.weight, mask, activations=activations, rows=rows or None, plan=plan
        )
    if options.format is not None and mask is None and group.layers[0].carries_mask:
        mask = matrix(group.linear) != 0
    return pack_weight(
        matrix(group.linear), mask, **options.numbers(), rows=rows or None, plan=plan
    )


def _activations(foreign: Foreign, weight: QuantizedTensor, options: Options) -> str | None:
    """What the input is quantized to, for integers alone: as asked, else as by the layer itself."""
    if options.float_input or not NumberFormat.get(weight.format).is_integer:
        return None
    own = foreign.activations if multiplied_as_integers(weight) else None
    return options.activations or own


def _packed_further(
    before: PackedWeight, mask: Tensor | None, rows: Sequence[int], plan: str, options: Options
) -> PackedWeight | str:
    """The weight of a packed layer where it changes: what was pruned stays so."""
    if not isinstance(before, MaskedWeight) or before.format is not None:
        return "it is packed already, in codes"
    kept = before_kept = unpack_mask(before.bits, before.shape[1])
    if mask is not None:
        kept = before_kept & mask.to(before.device)
    dense = before.to_dense()
    if options.format is not None:
        made = dense.to(before.input_dtype)
        return pack_weight(made, kept, **options.numbers(), rows=rows or None, plan=plan)
    same = plan == before.plan_source and options.dtype in (None, before.dtype)
    if same and torch.equal(kept, before_kept):
        further = (
            "nothing more of it is pruned" if mask is not None else "sparsity or masks prune more"
        )
        return f"it is packed already; {further}"
    return _repacked(before, dense, kept, rows, plan, options.dtype or before.dtype)


def _repacked(
    before: MaskedWeight,
    dense: Tensor,
    kept: Tensor,
    rows: Sequence[int],
    plan: str,
    dtype: torch.dtype,
) -> MaskedWeight:
    backward = before.back_quads is not None
    made = cast(
        MaskedWeight,
        pack_weight(
            dense.to(before.input_dtype),
            kept,
            dtype=dtype,
            rows=rows or None,
            plan=plan,
            backward=backward,
        ),
    )
    values = dense[kept].to(dtype)
    if made.dtype != dtype or torch.equal(made.values, values):
        return made
    return MaskedWeight.prepared(  # values of more digits than the model's dtype has
        made.bits,
        values,
        made.shape,
        methods=made.methods,
        plan_source=made.plan_source,
        backward=made.back_quads is not None,
        input_dtype=made.input_dtype,
    )


def _activation(group: Group, fusions: Mapping[int, Fusion]) -> str | None:
    if group.packed_linear is not None:
        return group.packed_linear.activation
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


def _slower(weight: PackedWeight, measured: Sequence[Timing]) -> str:
    """Why dense is the better choice; nothing if it is not."""
    if weight.nnz == weight.shape[0] * weight.shape[1] and weight.format is None:
        return "nothing of it is pruned"
    if weight.plan_source in ("auto", "measure") and set(weight.method_names()) == {"dense"}:
        best = f" ({_best(measured)})" if measured else ""
        return f"dense is faster{best or ', by its costs'}"
    if measured and all(one.planned_ms >= one.dense_ms for one in measured):
        return f"dense is faster ({_best(measured)})"
    return ""


def _best(measured: Sequence[Timing]) -> str:
    best = min(measured, key=lambda one: one.planned_ms / max(one.dense_ms, 1e-9))
    return f"measured: {best.dense_ms:.3g} ms for {best.rows} rows"
