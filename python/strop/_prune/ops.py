"""The ops of pruning masks, and what torch has to know of them beside their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from strop._core.op import op
from strop._core.vmap import each_sample

Dims = Sequence[Any]


def _mask_of(called: str, weight: Tensor) -> Tensor:
    if not weight.is_floating_point():
        raise TypeError(
            f"strop.{called}: weight has dtype {weight.dtype}; a floating dtype is needed"
        )
    return weight.new_empty(weight.shape, dtype=torch.bool)


def _fake_prune_mask(weight: Tensor, *options: Any, **named: Any) -> Tensor:
    return _mask_of("prune_mask", weight)


def _fake_prune_masks(weights: Sequence[Tensor], *options: Any, **named: Any) -> list[Tensor]:
    return [_mask_of("prune_masks", weight) for weight in weights]


def _fake_pack_mask(mask: Tensor) -> Tensor:
    return mask.new_empty((*mask.shape[:-1], (mask.shape[-1] + 7) // 8), dtype=torch.uint8)


def _fake_unpack_mask(bits: Tensor, K: int) -> Tensor:
    return bits.new_empty((*bits.shape[:-1], K), dtype=torch.bool)


def _vmap_prune_masks(
    op: OpOverload,
    info: Any,
    in_dims: Dims,
    weights: Sequence[Tensor],
    *options: Any,
    **named: Any,
) -> tuple[list[Tensor], list[int]]:
    """A ranking for each sample."""
    dims = in_dims[0]
    samples = [
        op(
            [w if d is None else w.select(d, i) for w, d in zip(weights, dims, strict=True)],
            *options,
            **named,
        )
        for i in range(info.batch_size)
    ]
    return [torch.stack(masks) for masks in zip(*samples, strict=True)], [0] * len(weights)


def _vmap_of_rows(
    op: OpOverload, info: Any, in_dims: Dims, rows: Tensor, *size: int
) -> tuple[Tensor, int]:
    """The batch as one more leading dimension."""
    return op(rows.movedim(in_dims[0], 0), *size), 0


prune_mask = op("prune_mask", fake=_fake_prune_mask, vmap=each_sample)
prune_masks = op("prune_masks", fake=_fake_prune_masks, vmap=_vmap_prune_masks)
pack_mask = op("pack_mask", fake=_fake_pack_mask, vmap=_vmap_of_rows)
unpack_mask = op("unpack_mask", fake=_fake_unpack_mask, vmap=_vmap_of_rows)
