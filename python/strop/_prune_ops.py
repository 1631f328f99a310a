"""The ops of pruning, and what torch has to know of them beside their kernels: shapes and mutation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop._core import library
from strop._core.op import register_fake, register_vmap

_ops = library.ops

prune_mask = _ops.prune_mask.default
prune_masks = _ops.prune_masks.default
soft_threshold = _ops.soft_threshold.default
soft_threshold_out = _ops.soft_threshold.out
soft_threshold_in_place = _ops.soft_threshold_.default
soft_threshold_gradient = _ops._soft_threshold_gradient.default
pack_mask = _ops.pack_mask.default
unpack_mask = _ops.unpack_mask.default


def _checked(op: str, weight: Tensor) -> Tensor:
    """What can be said of a tensor without data; the kernel checks everything."""
    if not weight.is_floating_point():
        raise TypeError(f"strop.{op}: weight has dtype {weight.dtype}; a floating dtype is needed")
    return weight


def _mask_of(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape, dtype=torch.bool)


def _fake_prune_mask(weight: Tensor, *options: Any, **named: Any) -> Tensor:
    return _mask_of(_checked("prune_mask", weight))


def _fake_prune_masks(weights: Sequence[Tensor], *options: Any, **named: Any) -> list[Tensor]:
    return [_mask_of(_checked("prune_masks", weight)) for weight in weights]


def _fake_soft_threshold(
    weight: Tensor, amount: float | None = None, amount_tensor: Tensor | None = None
) -> Tensor:
    return torch.empty_like(_checked("soft_threshold", weight))


def _fake_soft_threshold_gradient(
    gradient: Tensor,
    weight: Tensor,
    amount: float | None = None,
    amount_tensor: Tensor | None = None,
) -> Tensor:
    return torch.empty_like(weight)


def _fake_written(*args: Any, **named: Any) -> None:
    return None


def _fake_pack_mask(mask: Tensor) -> Tensor:
    return mask.new_empty((*mask.shape[:-1], (mask.shape[-1] + 7) // 8), dtype=torch.uint8)


def _fake_unpack_mask(bits: Tensor, K: int) -> Tensor:
    return bits.new_empty((*bits.shape[:-1], K), dtype=torch.bool)


_FAKES: dict[str, Callable[..., Any]] = {
    "prune_mask": _fake_prune_mask,
    "prune_masks": _fake_prune_masks,
    "soft_threshold": _fake_soft_threshold,
    "soft_threshold.out": _fake_written,
    "soft_threshold_": _fake_written,
    "_soft_threshold_gradient": _fake_soft_threshold_gradient,
    "pack_mask": _fake_pack_mask,
    "unpack_mask": _fake_unpack_mask,
}
for _name, _fake in _FAKES.items():
    register_fake(_name, _fake)


def _vmap_prune_mask(
    info: Any, in_dims: Sequence[int | None], weight: Tensor, *options: Any, **named: Any
) -> tuple[Tensor, int]:
    """A ranking for each sample."""
    (dim, *_) = in_dims
    masks = [prune_mask(one, *options, **named) for one in weight.unbind(dim or 0)]
    return torch.stack(masks), 0


def _vmap_prune_masks(
    info: Any,
    in_dims: Sequence[Any],
    weights: Sequence[Tensor],
    *options: Any,
    **named: Any,
) -> tuple[list[Tensor], list[int]]:
    dims = in_dims[0]
    samples = [
        prune_masks(
            [w if d is None else w.select(d, i) for w, d in zip(weights, dims, strict=True)],
            *options,
            **named,
        )
        for i in range(info.batch_size)
    ]
    return [torch.stack(masks) for masks in zip(*samples, strict=True)], [0] * len(weights)


def _vmap_pack_mask(info: Any, in_dims: Sequence[int | None], mask: Tensor) -> tuple[Tensor, int]:
    return pack_mask(mask.movedim(in_dims[0] or 0, 0)), 0


def _vmap_unpack_mask(
    info: Any, in_dims: Sequence[int | None], bits: Tensor, K: int
) -> tuple[Tensor, int]:
    return unpack_mask(bits.movedim(in_dims[0] or 0, 0), K), 0


register_vmap("prune_mask", _vmap_prune_mask)
register_vmap("prune_masks", _vmap_prune_masks)
register_vmap("pack_mask", _vmap_pack_mask)
register_vmap("unpack_mask", _vmap_unpack_mask)
