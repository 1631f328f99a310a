"""Tensor dataclasses: prepared tensors that an op takes instead of preparing them at every call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast, get_args, get_type_hints

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils import _pytree as pytree
from typing_extensions import Self, dataclass_transform

from strop._core.arguments import instance, integer
from strop._core.errors import unfit

_H = TypeVar("_H", bound="TensorDataclass")


class TensorDataclass:
    """A frozen dataclass of tensors, and of the few facts that describe them.

    Fields annotated ``Tensor`` or ``Tensor | None`` are the leaves of a pytree, everything else is
    its context: an instance passes through ``torch.compile``, ``torch.export`` and ``torch.func`` as its
    tensors do. An instance is checked once, when it is made or loaded, by :meth:`validate`; afterwards
    ops trust it.

    As an attribute of a module it is neither moved nor saved with it: :class:`strop.nn.Held` makes
    a module of it, which is.

    Derive with the :func:`tensor_dataclass` decorator.
    """

    # Of each class, found once: compiled code cannot ask for annotations. (These have none.)
    called = ""
    """What errors call it: its own name, unless a base class gives one."""
    tensor_fields = cast(tuple[str, ...], ())
    metadata_fields = cast(tuple[str, ...], ())
    _optional = cast(tuple[str, ...], ())
    _hints = cast(dict[str, Any], {})

    def __post_init__(self) -> None:
        if not is_compiling():  # shapes are symbols there; what made it knows them
            self._check_kinds()
            self.validate()

    def _check_kinds(self) -> None:
        """Raises TypeError where a field is of another type than its annotation, in plain types."""
        op = f"strop.{self.called}"
        for name, hint in self._hints.items():
            value = getattr(self, name)
            kinds = get_args(hint) or (hint,)
            if value is None and type(None) in kinds:
                continue
            if Tensor in kinds:
                if (problem := unfit(value)) is not None:
                    raise TypeError(f"{op}: {name} {problem}")
            elif hint in (str, bool, torch.dtype):
                instance(op, name, value, hint, f"a {hint.__name__}")
            else:
                instance(op, name, value, (tuple, list), "a tuple of ints")
                entries = tuple(integer(op, f"an entry of {name}", entry) for entry in value)
                object.__setattr__(self, name, entries)

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, layouts included, of which a state dict has fewer."""
        return self._bytes()

    def _bytes(self) -> int:
        # (torch's own nbytes knows no symbols for sizes)
        return sum(t.numel() * t.element_size() for _, t in self._tensors() if t is not None)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """An instance whose tensors went through ``torch.Tensor.to`` with these arguments."""
        tensors = {k: None if t is None else t.to(*args, **kwargs) for k, t in self._tensors()}
        return self._with(tensors)

    def applied(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """What ``.to()``, ``.half()``, ``.share_memory()`` and their kind of a module make of it."""
        tensors = {name: None if t is None else fn(t) for name, t in self._tensors()}
        return self._with(tensors)

    def cpu(self) -> Self:
        """On the CPU."""
        return self.to("cpu")

    def cuda(self, device: torch.device | int | None = None, non_blocking: bool = False) -> Self:
        """On a GPU, the current one unless another is named."""
        if device is None:
            place = torch.device("cuda")
        else:
            place = torch.device("cuda", device) if isinstance(device, int) else device
        return self.to(place, non_blocking=non_blocking)

    def share_memory_(self) -> Self:
        """Moves the tensors to shared memory, as ``torch.Tensor.share_memory_``; returns itself."""
        for _, tensor in self._tensors():
            if tensor is not None:
                tensor.share_memory_()
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by field name, those that are None left out."""
        return {name: tensor for name, tensor in self._tensors() if tensor is not None}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], **facts: Any) -> Self:
        """A validated instance from :meth:`state_dict` and the fields that are no tensors.

        Raises:
            ValueError: for a key that is unknown or missing.

        """
        wanted = set(cls.tensor_fields)
        name = f"strop.{cls.called}"
        check_state(name, state)
        if unknown := sorted(set(state) - wanted):
            raise ValueError(f"{name}: state dict has unknown keys {unknown}; known are {wanted}")
        absent = dict.fromkeys(n for n in cls._optional if n not in state)
        if missing := sorted(wanted - set(state) - set(absent)):
            raise ValueError(f"{name}: state dict lacks {missing}")
        return cls(**state, **absent, **facts)

    def _tensors(self) -> Iterator[tuple[str, Tensor | None]]:
        return ((name, getattr(self, name)) for name in self.tensor_fields)

    def _with(self, changed: Mapping[str, Any]) -> Self:
        """A new instance, of other values for some fields."""
        fields = {name: getattr(self, name) for name in self.tensor_fields + self.metadata_fields}
        fields.update(changed)
        return type(self)(**fields)

    @classmethod
    def _trusted(cls, **fields: Any) -> Self:
        """Of fields that were checked before."""
        if is_compiling():
            return cls(**fields)
        made = object.__new__(cls)
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return made

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name in self.tensor_fields + self.metadata_fields:
            object.__setattr__(self, name, state[name])
        self.validate()


class Move(NamedTuple):
    """What arguments of ``torch.Tensor.to`` ask for."""

    device: torch.device
    dtype: torch.dtype
    options: dict[str, Any]  # non_blocking and copy, where they are given


def parsed_to(device: torch.device, dtype: torch.dtype, /, *args: Any, **kwargs: Any) -> Move:
    """Where a tensor of a device and a dtype would be after ``.to(*args, **kwargs)``, and as what.

    (torch's own parser of these does not know ``copy``.)
    """
    moved = torch.empty(0, dtype=dtype, device=device).to(*args, **kwargs)
    flags = [argument for argument in args if isinstance(argument, bool)]
    options = dict(zip(("non_blocking", "copy"), flags, strict=False))
    options.update({k: kwargs[k] for k in ("non_blocking", "copy") if k in kwargs})
    return Move(moved.device, moved.dtype, options)


def check_state(op: str, state: object) -> None:
    """Raises TypeError where a state dict is no mapping from strings."""
    instance(op, "state", state, Mapping, "a mapping of tensors by name")
    for key in state:  # type: ignore[attr-defined]
        instance(op, "a key of state", key, str, "a string")


@dataclass_transform(frozen_default=True)
def tensor_dataclass(cls: type[_H]) -> type[_H]:
    """Makes a class derived from :class:`TensorDataclass` a frozen dataclass and registers it as a pytree."""
    made: type[_H] = dataclasses.dataclass(frozen=True, eq=False)(cls)
    known = get_type_hints(made)
    hints = {f.name: known[f.name] for f in dataclasses.fields(made)}  # type: ignore[arg-type]
    tensors = tuple(n for n, hint in hints.items() if hint in (Tensor, Tensor | None))
    facts = tuple(n for n in hints if n not in tensors)
    made.called = made.called or made.__name__
    made._hints = hints
    made.tensor_fields, made.metadata_fields = tensors, facts
    made._optional = tuple(n for n in tensors if hints[n] != Tensor)

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
