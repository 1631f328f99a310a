"""Holders: prepared tensors that an op takes instead of preparing them at every call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils import _pytree as pytree
from typing_extensions import Self, dataclass_transform

_H = TypeVar("_H", bound="Holder")


class Holder:
    """A frozen dataclass of tensors, and of the few facts that describe them.

    Fields annotated ``Tensor`` or ``Tensor | None`` are the leaves of a pytree, everything else is
    its context: a holder passes through ``torch.compile``, ``torch.export`` and ``torch.func`` as its
    tensors do. A holder is checked once, when it is made or loaded, by :meth:`validate`; afterwards
    ops trust it.

    Derive with the :func:`holder` decorator.
    """

    def __post_init__(self) -> None:
        if not is_compiling():  # shapes are symbols there; what made the holder knows them
            self.validate()

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """A holder whose tensors went through ``torch.Tensor.to`` with these arguments."""
        tensors = {k: None if t is None else t.to(*args, **kwargs) for k, t in _tensors(self)}
        return dataclasses.replace(self, **tensors)  # type: ignore[type-var]

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by field name, those that are None left out."""
        return {name: tensor for name, tensor in _tensors(self) if tensor is not None}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], **facts: Any) -> Self:
        """A validated holder from :meth:`state_dict` and the fields that are no tensors.

        Raises:
            ValueError: for a key that is unknown or missing.

        """
        wanted = set(_tensor_fields(cls))
        name = f"strop.{cls.__name__}"
        if unknown := sorted(set(state) - wanted):
            raise ValueError(f"{name}: state dict has unknown keys {unknown}; known are {wanted}")
        hints = get_type_hints(cls)
        absent = {n: None for n in wanted - set(state) if hints[n] == Tensor | None}
        if missing := sorted(wanted - set(state) - set(absent)):
            raise ValueError(f"{name}: state dict lacks {missing}")
        return cls(**state, **absent, **facts)


@dataclass_transform(frozen_default=True)
def holder(cls: type[_H]) -> type[_H]:
    """Makes a class derived from :class:`Holder` a frozen dataclass and registers it as a pytree."""
    made: type[_H] = dataclasses.dataclass(frozen=True, eq=False)(cls)
    tensors = _tensor_fields(made)
    facts = [f.name for f in _fields(made) if f.name not in tensors]

    def flatten(self: _H) -> tuple[list[Tensor | None], tuple[Any, ...]]:
        return [getattr(self, n) for n in tensors], tuple(getattr(self, n) for n in facts)

    def unflatten(leaves: Any, context: tuple[Any, ...]) -> _H:
        # Trusted: a transform's placeholders would not pass validation, real tensors have.
        made_again = object.__new__(made)
        for name, value in (*zip(tensors, leaves, strict=True), *zip(facts, context, strict=True)):
            object.__setattr__(made_again, name, value)
        return made_again

    pytree.register_pytree_node(
        made, flatten, unflatten, serialized_type_name=f"strop.{made.__name__}"
    )
    torch.serialization.add_safe_globals([made])
    return made


def _fields(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _tensor_fields(cls: type[Any]) -> list[str]:
    hints = get_type_hints(cls)
    return [f.name for f in _fields(cls) if hints[f.name] in (Tensor, Tensor | None)]


def _tensors(instance: Holder) -> list[tuple[str, Tensor | None]]:
    return [(name, getattr(instance, name)) for name in _tensor_fields(type(instance))]
