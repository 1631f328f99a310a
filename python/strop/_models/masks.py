"""Which weights stay: as the model has them, as given, or by one ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from strop._core.errors import in_the_name_of, unfit
from strop._models.layers import Group
from strop._models.parameter_users import Users
from strop._models.prune_masks import ranked_masks
from strop._prune.prune_mask import Pattern

_OP = "strop.pack_model"


def masks_of(
    model: nn.Module,
    groups: Sequence[Group],
    sparsity: float | None,
    given: Mapping[str, Tensor] | None,
    pattern: Pattern,
) -> dict[int, Tensor]:
    """Masks of the parameters' shapes by the id of the group; a group without one stays as it is."""
    some = not isinstance(pattern, str) or pattern != "unstructured"
    prunes = sparsity is not None or some
    if given is not None:
        if prunes:
            what = "sparsity" if sparsity is not None else "pattern"
            raise ValueError(f"{_OP}: masks and {what} are both given; give one of them")
        return _given(model, groups, given)
    if not prunes:
        return {}
    wanted = [group for group in groups if not group.alone]
    for group in wanted:
        if group.layers[0].carries_mask:
            raise ValueError(
                f"{_OP}: sparsity or pattern is given, but '{group.name}' has a mask of "
                "torch.nn.utils.prune; give neither to keep it, or remove it first"
            )
    wanted = [group for group in wanted if group.rankable]
    if not wanted:
        return {}
    with in_the_name_of(_OP):
        masks = ranked_masks(wanted, sparsity, pattern)
    return {id(group): mask for group, mask in zip(wanted, masks.values(), strict=True)}


def _given(
    model: nn.Module, groups: Sequence[Group], given: Mapping[str, Tensor]
) -> dict[int, Tensor]:
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{_OP}: masks is a {type(given).__name__}; a dict of masks by the names of parameters, as "
            "strop.prune_masks returns it, is needed"
        )
    by_key = {key: group for group in groups for key in group.keys}
    found: dict[int, Tensor] = {}
    for name, mask in given.items():
        group = by_key.get(name)
        if group is None:
            users = Users(model).users_of(name)
            whose = f" but of {users}" if users else ""
            raise ValueError(
                f"{_OP}: masks has '{name}', which is no weight of an nn.Linear here{whose}"
            )
        _check_mask(name, mask, group)
        before = found.setdefault(id(group), mask)
        if not torch.equal(before, mask):
            raise ValueError(f"{_OP}: masks has '{name}' unlike another name of the same weight")
    return found


def _check_mask(name: str, mask: Tensor, group: Group) -> None:
    if group.layers[0].carries_mask:
        raise ValueError(
            f"{_OP}: masks has '{name}', which has a mask of torch.nn.utils.prune already"
        )
    if group.shared:
        raise ValueError(
            f"{_OP}: masks has '{name}', which cannot be pruned: '{group.name}' "
            f"({type(group.linear).__name__}) shares its weight with {group.shared}"
        )
    if not group.rankable:
        why = f": {group.alone or group.on_meta}" if group.alone or group.on_meta else ""
        raise ValueError(f"{_OP}: masks has '{name}', which cannot be pruned{why}")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{_OP}: masks has a {kind} for '{name}'; a bool tensor is needed")
    if (problem := unfit(mask)) is not None:
        raise TypeError(f"{_OP}: '{name}' of masks {problem}")
    if mask.is_meta:
        raise ValueError(f"{_OP}: '{name}' of masks is on meta, where there are no values")
    if mask.shape != (shape := group.parameter_shape):
        raise ValueError(f"{_OP}: masks has shape {list(mask.shape)} for '{name}' of {list(shape)}")


def apply_mask(group: Group, mask: Tensor) -> None:
    """Makes zeros of what is pruned, in the dense weight."""
    parameter = group.parameter
    if parameter is not None:
        with torch.no_grad():
            parameter.masked_fill_(~mask.to(parameter.device), 0)
