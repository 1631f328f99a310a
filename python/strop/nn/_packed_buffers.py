"""A module whose weight is packed: its tensors are buffers, and what kernels read follows them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.compiler import is_dynamo_compiling, is_exporting
from typing_extensions import Self

from strop._core.call_path import transformed
from strop._linear.masked_weight import MaskedWeight
from strop._linear.packed_weight import (
    PackedWeight,
    facts_in,
    kind_of,
    needed_keys,
    plan_facts,
)

_NAME = "strop.nn.PackedLinear"
_TENSORS = ("bits", "values", "codes", "scale", "zero_point", "tensor_scale")
_FACTS = ("shape", "plan", "activation")
STATE_KEYS = (*_TENSORS, *_FACTS)
NUMBERED = (None, "relu", "gelu", "gelu_tanh", "silu")
"""Activations as a state dict has them."""


class PackedBuffers(nn.Module):
    """What :class:`strop.nn.PackedLinear` is beside a linear layer: state, moves and copies.

    Note [Buffers and layouts]
    The module's truth is in its buffers: those of a :class:`strop.PackedWeight`'s state dict, and
    ``activation``. The PackedWeight beside them has the same tensors, and the layouts that kernels read.
    Before it is used, each buffer has to be the tensor that it was made from, of the same version
    (torch counts writes in place); else it is made anew from what the buffers hold, and checked. (The
    PackedWeight looks after the versions of the tensors that it has.)
    """

    in_features: int
    out_features: int
    bias: nn.Parameter | None
    _packed: PackedWeight | None
    _activation: str | None
    _known: tuple[list[Tensor | None], list[int], list[Tensor], list[int]]

    def _adopt(self, packed: PackedWeight, activation: str | None) -> None:
        """Makes a weight the module's."""
        state = packed.state_dict()
        if activation is not None:
            state["activation"] = torch.tensor(NUMBERED.index(activation), device="cpu")
        before = self._state()
        for name in before.keys() - state.keys():
            del self._buffers[name]
        for name in _FACTS:
            if name in state:
                state[name] = _written(before.get(name), state[name].to(packed.device))
        self._buffers.update(state)
        self._packed, self._activation = packed, activation
        self._settle()

    def _settle(self) -> None:
        """Takes the weight for that of the buffers as they are."""
        for name, tensor in self._buffers.items():
            if tensor is not None and tensor.is_inference():  # which has no version
                with torch.inference_mode(False):
                    self._buffers[name] = tensor.clone()
        held = list(self._buffers.values())
        facts = [t for name in _FACTS if (t := self._buffers.get(name)) is not None]
        self._known = (held, [id(t) for t in held], facts, [t._version for t in facts])

    def _current(self) -> PackedWeight:
        """The weight that the buffers hold."""
        packed, (_, ids, facts, versions) = self._packed, self._known
        if (
            packed is not None
            and [id(t) for t in self._buffers.values()] == ids
            and [t._version for t in facts] == versions
        ):
            return packed
        return self._followed()

    def _followed(self) -> PackedWeight:
        """The same, found out by looking closer."""
        state = self._state()
        tensors = [tensor for name, tensor in state.items() if name in _TENSORS]
        if any(t.is_meta or isinstance(t, FakeTensor) for t in tensors):
            return _of_nothing(state, self._shape())
        if self._packed is not None and self._holds(self._packed, state):
            self._settle()
            return self._packed  # (which follows its tensors by itself)
        if not bool(state["plan"].any()):
            raise ValueError(f"{_NAME}: there are no values since to_empty(); load a state dict")
        packed, activation = weight_of(state, copy=False), activation_of(state)
        if packed.shape != self._shape():
            raise ValueError(
                f"{_NAME}: shape is {packed.shape} in the state; the layer has {self._shape()}"
            )
        if not transformed():  # whose tensors are of no use afterwards
            self._buffers.update({n: t for n, t in packed.held().items() if t is not None})
            self._packed, self._activation = packed, activation
            self._settle()
        return packed

    def _holds(self, packed: PackedWeight, state: Mapping[str, Tensor]) -> bool:
        """Whether these are the same tensors, maybe by other objects, and mean the same."""
        held = {name: tensor for name, tensor in packed.held().items() if tensor is not None}
        return (
            held.keys() == state.keys() - set(_FACTS)
            and all(_same(state[name], tensor) for name, tensor in held.items())
            and state["shape"].tolist() == list(self._shape())
            and _facts_or_none(state["plan"]) == plan_facts(packed)
            and activation_of(state) == self._activation
        )

    def _shape(self) -> tuple[int, int]:
        return (self.out_features, self.in_features)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        arguments = (local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, *arguments)
        own = {
            name: state_dict[prefix + name] for name in STATE_KEYS if prefix + name in state_dict
        }
        rest = {k: v for k, v in state_dict.items() if k.removeprefix(prefix) not in own}
        needed = self._needed(own)
        missing = [name for name in needed if name not in own]
        packed = None
        try:
            if prefix + "weight" in state_dict:
                raise ValueError(f"weight is dense; {_NAME} needs {', '.join(needed)}")
            if own:
                state = {**self._state(), **own} if missing else own
                assign = local_metadata.get("assign_to_params_buffers", False)
                packed = self._loaded(state, assign)
        except (TypeError, ValueError) as error:
            error_msgs.append(f"{prefix.removesuffix('.') or 'the layer'}: {error}")
            return
        missing_keys.extend(prefix + name for name in missing)
        with self._without_buffers():
            super()._load_from_state_dict(rest, prefix, *arguments)
        if packed is not None:
            self._adopt(packed, self._activation)

    def _needed(self, own: Mapping[str, object]) -> list[str]:
        """The keys that a state dict cannot lack, of the kind of weight that it has."""
        given = kind_of(own) if "plan" in own else None
        kind = given or kind_of(self._state()) or MaskedWeight
        return needed_keys(kind)

    def _loaded(self, state: Mapping[str, Any], assign: bool) -> PackedWeight:
        """The weight of a state dict, checked against this layer; in its tensors where they fit."""
        activation = activation_of(state)
        if activation != self._activation:
            raise ValueError(
                f"{_NAME}: activation is {activation} in the state dict; the layer has "
                f"{self._activation}"
            )
        packed = weight_of(state, copy=not assign, dtype=None if assign else self._dtype())
        if packed.shape != self._shape():
            raise ValueError(
                f"{_NAME}: shape is {packed.shape} in the state dict; the layer has {self._shape()}"
            )
        mine = None if assign else self._packed
        if mine is not None and packed.input_dtype != mine.input_dtype:
            packed = packed.to(mine.dtype)
        held = self._state()
        if assign or any(tensor.is_meta for tensor in held.values()):
            return packed
        packed = packed.to(held["plan"].device)
        with torch.no_grad():  # whoever holds them, or shares their memory, sees what is loaded
            tensors = {
                name: None if tensor is None else _written(held.get(name), tensor)
                for name, tensor in packed.held().items()
            }
        return packed.beside(tensors)

    def _dtype(self) -> torch.dtype | None:
        """Of the weight, as far as that is known."""
        values = self._buffers.get("values")
        if values is not None:
            return values.dtype
        return None if self._packed is None else self._packed.dtype

    def _state(self) -> dict[str, Tensor]:
        """The buffers that are of the weight."""
        return {
            name: t for name, t in self._buffers.items() if name in STATE_KEYS and t is not None
        }

    @contextmanager
    def _without_buffers(self) -> Iterator[None]:
        """For what torch does to all others."""
        before, hooks = dict(self._buffers), self._load_state_dict_pre_hooks
        for name in STATE_KEYS:
            self._buffers.pop(name, None)
        self._load_state_dict_pre_hooks = OrderedDict()
        try:
            yield
        finally:
            after = dict(self._buffers)
            self._buffers.clear()
            self._buffers.update({**before, **after})
            self._load_state_dict_pre_hooks = hooks

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before, packed = self._state(), None
        with suppress(TypeError, ValueError):  # of memory that was never written
            packed = self._current()
        after = {name: _moved(name, tensor, fn) for name, tensor in before.items()}
        if before["plan"].is_meta or (packed is not None and _is_lost(packed, after)):
            packed = None
            after["plan"].zero_()  # (see _followed)
        if packed is not None:
            packed = _carried(packed, after, fn)
        with self._without_buffers():
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers.update(after)
        if packed is None:
            self._packed = None
        elif packed is not self._packed:
            self._adopt(packed, self._activation)
        else:
            self._settle()
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_known"]
        try:
            self._current().follow()
            state["_packed"] = self._packed
        except (TypeError, ValueError):
            state["_packed"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._settle()


def check_unwritten(packed: PackedWeight) -> None:
    """Compiled code asks when it runs (see versions); what is exported has to be right when it is made."""
    if not is_exporting() or is_dynamo_compiling():
        return
    if packed._made_of is None or packed._made_of != packed._now():
        names = " or ".join(name for name, t in packed.held().items() if t is not None)
        raise RuntimeError(
            f"{_NAME}: {names} were written to in place; call the layer once before it is exported"
        )


def _moved(name: str, tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """Where a module's move puts a buffer; casts are for values alone."""
    moved = fn(tensor)
    if moved.dtype == tensor.dtype:
        return moved
    if name != "values":
        return tensor.to(moved.device)
    if not moved.is_floating_point():
        raise TypeError(f"{_NAME}: values cannot become {moved.dtype}; a floating dtype is needed")
    return moved


def _carried(
    packed: PackedWeight, after: Mapping[str, Tensor], fn: Callable[[Tensor], Tensor]
) -> PackedWeight:
    """A weight after a move; the same for all layers that had it, which go by the same function."""
    by, made = packed._moved
    found = made() if by is not None and by() is fn and made is not None else None
    if found is None:
        some = after[packed.canonical[0]].new_empty(0, dtype=packed.input_dtype)
        tensors = {name: after.get(name) for name in packed.canonical}
        found = packed.carried(tensors, fn(some).dtype)
        with suppress(TypeError):  # of what nothing can refer to weakly
            object.__setattr__(packed, "_moved", (weakref.ref(fn), weakref.ref(found)))
    return found


def _is_lost(packed: PackedWeight, after: Mapping[str, Tensor]) -> bool:
    """Whether a move left no values, as ``to_empty()`` does."""
    name = packed.canonical[0]
    held, moved = cast(Tensor, packed.held()[name]), after[name]
    if held.is_meta or moved.is_meta:
        return True
    held, moved = held.to(moved.dtype), moved.to(held.device)  # (values may be cast)
    same = (moved == held) | ((moved != moved) & (held != held))
    return not bool(same.all())


def _written(held: Tensor | None, found: Tensor) -> Tensor:
    """What was found, in the tensor that is held where it fits; else itself."""
    if held is None or held.is_inference() or held.is_meta:
        return found
    if (held.shape, held.dtype, held.device) != (found.shape, found.dtype, found.device):
        return found
    with torch.no_grad():
        return held.copy_(found)


def _same(tensor: Tensor, known: Tensor) -> bool:
    """Whether a tensor is what is known, or another object for it, as a state dict has one."""
    return tensor is known or (
        not tensor.is_inference()
        and tensor.shape == known.shape
        and tensor.dtype == known.dtype
        and tensor.device == known.device
        and tensor.stride() == known.stride()
        and tensor.data_ptr() == known.data_ptr()
    )


def _of_nothing(state: Mapping[str, Tensor], shape: tuple[int, int]) -> PackedWeight:
    """A weight of shapes alone."""
    kind = cast("type[PackedWeight]", kind_of(state))
    return kind.of_shapes({name: state.get(name) for name in kind.canonical}, shape)


def _facts_or_none(plan: Tensor) -> dict[str, Any] | None:
    with suppress(ValueError):
        return facts_in(plan)
    return None


def activation_of(state: Mapping[str, Any]) -> str | None:
    """The activation of a layer's state dict."""
    number = state.get("activation")
    if number is None:
        return None
    known = isinstance(number, Tensor) and number.dtype == torch.int64 and number.numel() == 1
    if not known or not 0 <= int(number) < len(NUMBERED):
        raise ValueError(f"{_NAME}: activation is {number!r} in the state dict, which is unknown")
    return NUMBERED[int(number)]


def weight_of(
    state: Mapping[str, Any], *, copy: bool, dtype: torch.dtype | None = None
) -> PackedWeight:
    """The weight of a layer's state dict, of another dtype if asked; its own tensors unless copied."""
    own = {name: tensor for name, tensor in state.items() if name in STATE_KEYS[:-1]}
    for name in own.keys() & set(_TENSORS):
        if not isinstance(own[name], Tensor):
            kind = type(own[name]).__name__
            raise TypeError(f"{_NAME}: {name} is a {kind} in the state dict; a tensor is needed")
        own[name] = own[name].detach().clone() if copy else own[name].detach()
    values = own.get("values")
    if (
        dtype is not None
        and isinstance(values, Tensor)
        and torch.float64 not in (dtype, values.dtype)
    ):
        own["values"] = values.to(dtype)  # (values of float64 have plans of their own)
    packed = PackedWeight.from_state_dict(own)
    return packed if dtype in (None, packed.dtype) else packed.to(dtype)
