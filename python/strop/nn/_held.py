"""A holder as a module, for the model that has it to move and save it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from strop._core.library import FLOATING
from strop._core.tensor_dataclass import TensorDataclass

_NAME = "strop.nn.Held"


class Held(nn.Module):
    """A :class:`strop.QuantizedTensor` as a module: what has it moves, saves and loads it.

    torch moves and saves parameters, buffers and modules; a holder is none of these, and stays
    behind as a plain attribute. Its tensors are buffers here, and calling the module gives the
    holder that they are at that time::

        self.weight = strop.nn.Held(strop.quantize(weight, format="nf4", block_size=(1, 64)))
        ...
        torch.nn.functional.linear(x, self.weight().dequantize())

    A cast (``.half()``, ``.to(torch.bfloat16)``) is one of the dtype to restore: codes and scales
    stay what they are. The state dict has the tensors by their names, and as extra state what they
    mean (format, block size, shape, dtype), every entry a tensor. Loading writes in place, or takes
    the tensors with ``assign=True``; it refuses, before anything is written, what means something
    else. The dtype to restore is the module's, as a parameter's is.

    Args:
        holder: a QuantizedTensor, whose tensors are taken, not copied.

    Raises:
        TypeError: for anything else. A PackedWeight is held by :class:`strop.nn.PackedLinear`.

    Example:
        >>> import strop, torch
        >>> held = strop.nn.Held(strop.quantize(torch.randn(4, 64), format="int4", block_size=(1, 32)))
        >>> sorted(held.state_dict())
        ['_extra_state', 'codes', 'scale']
        >>> held.half()().dequantize().dtype
        torch.float16

    """

    def __init__(self, holder: TensorDataclass) -> None:
        super().__init__()
        if (
            not isinstance(holder, TensorDataclass)
            or type(holder).state_dict is not TensorDataclass.state_dict
        ):
            raise TypeError(
                f"{_NAME}: holder is a {type(holder).__name__}; a QuantizedTensor is needed"
            )
        self._kind = type(holder)
        self._facts = {name: getattr(holder, name) for name in holder.metadata_fields}
        for name in holder.tensor_fields:
            self.register_buffer(name, getattr(holder, name))

    def forward(self) -> Any:
        """The holder, of the module's tensors."""
        tensors = {name: self._buffers[name] for name in self._kind.tensor_fields}
        return self._kind._trusted(**tensors, **self._facts)

    def extra_repr(self) -> str:
        """What the tensors mean."""
        return ", ".join(f"{name}={value}" for name, value in self._facts.items())

    def get_extra_state(self) -> Tensor:
        """What the tensors mean, as bytes of JSON."""
        return torch.tensor(list(_text(self._facts).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Does nothing: loading compares it before it writes."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        made = self().applied(fn)
        self._facts = {name: getattr(made, name) for name in made.metadata_fields}
        self._buffers.update({name: getattr(made, name) for name in made.tensor_fields})
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        given = {
            n: state_dict[prefix + n] for n in self._kind.tensor_fields if prefix + n in state_dict
        }
        if f"{prefix}_extra_state" in state_dict:
            given["_extra_state"] = state_dict[f"{prefix}_extra_state"]
        if given:
            facts = _facts_of(given.get("_extra_state"))
            if difference := self._difference(given, facts):
                error_msgs.append(f"{prefix.removesuffix('.') or 'the module'}: {difference}")
                return
            if local_metadata.get("assign_to_params_buffers", False):
                dtypes = (n for n, fact in self._facts.items() if isinstance(fact, torch.dtype))
                self._facts.update({name: _DTYPES[str(facts[name])] for name in dtypes})
        arguments = (local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _difference(self, given: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
        """What a state dict has otherwise than this module; nothing if it can be loaded."""
        own = {n: t for n, t in self._buffers.items() if t is not None}
        needed = sorted([*own, "_extra_state"])
        if sorted(given) != needed:
            return f"{_NAME}: state dict has {sorted(given)}; {needed} are needed"
        for name, value in json.loads(_text(self._facts)).items():
            found = facts.get(name)
            is_dtype = isinstance(self._facts[name], torch.dtype)
            if not (str(found) in _DTYPES if is_dtype else found == value):
                return f"{_NAME}: {name} is {found} in the state dict; {value} is held"
        for name, tensor in own.items():
            if (found := _described(given[name])) != (held := _described(tensor)):
                return f"{_NAME}: {name} is {found} in the state dict; {held} is held"
        return ""


_DTYPES = {str(dtype): dtype for dtype in FLOATING}


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(dict(facts), default=str)


def _facts_of(state: Any) -> dict[str, Any]:
    """What an extra state says; nothing where it is no such one."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.is_meta:
        return {}
    with suppress(ValueError):
        facts = json.loads(bytes(state.flatten().tolist()))
        return facts if isinstance(facts, dict) else {}
    return {}


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
