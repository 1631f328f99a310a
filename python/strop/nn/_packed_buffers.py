"""A module whose weight is packed: its tensors are buffers, and what kernels read follows them."""

from __future__ import annotations

import dataclasses
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
from strop._linear.layouts import one_method
from strop._linear.sparse_weight import TENSORS, SparseWeight

_NAME = "strop.nn.SparseLinear"
WEIGHT_KEYS = ("bits", "values", "shape", "plan")
STATE_KEYS = (*WEIGHT_KEYS, "activation")
NUMBERED = (None, "relu", "gelu", "gelu_tanh", "silu")
"""Activations as a state dict has them."""
_FACTS = ("shape", "plan", "activation")


class PackedBuffers(nn.Module):
    """What :class:`strop.nn.SparseLinear` is beside a linear layer: state, moves and copies.

    Note [Buffers and layouts]
    The module's truth is in its buffers: those of a :class:`strop.SparseWeight`'s state dict, and
    ``activation``. The SparseWeight beside them has the same ``bits`` and ``values``, and the layouts that
    kernels read. Before it is used, each buffer has to be the tensor that it was made from, of the same
    version (torch counts writes in place); else it is made anew from what the buffers hold, and checked.
    """

    in_features: int
    out_features: int
    bits: Tensor
    values: Tensor
    shape: Tensor
    plan: Tensor
    bias: nn.Parameter | None
    _packed: SparseWeight | None
    _activation: str | None
    _facts: tuple[Tensor, int, Tensor, int, Tensor | None, int]

    def _adopt(self, packed: SparseWeight, activation: str | None) -> None:
        """Makes a weight the module's."""
        state = packed.state_dict()
        if activation is not None:
            state["activation"] = torch.tensor(NUMBERED.index(activation))
        before = self._state()
        for name in _FACTS:
            if name in state:
                state[name] = state[name].to(packed.device)
                known = before.get(name)
                if known is not None and known.device == packed.device and not known.is_inference():
                    with torch.no_grad():
                        state[name] = known.copy_(state[name])
        self._buffers.update(state)
        self._packed, self._activation = packed, activation
        self._settle()

    def _settle(self) -> None:
        """Takes the weight for that of the buffers as they are."""
        for name, tensor in self._buffers.items():
            if tensor is not None and tensor.is_inference():  # which has no version
                with torch.inference_mode(False):
                    self._buffers[name] = tensor.clone()
        shape, plan, activation = self.shape, self.plan, self._buffers.get("activation")
        written = 0 if activation is None else activation._version
        self._facts = (shape, shape._version, plan, plan._version, activation, written)

    def _current(self) -> SparseWeight:
        """The weight that the buffers hold."""
        packed, buffers = self._packed, self._buffers
        if packed is not None:
            shape, a, plan, b, activation, c = self._facts
            if (
                packed.bits is buffers["bits"]
                and packed.values is buffers["values"]
                and shape is buffers["shape"]
                and plan is buffers["plan"]
                and activation is buffers.get("activation")
                and shape._version == a
                and plan._version == b
                and (activation is None or activation._version == c)
            ):
                return packed
        return self._followed()

    def _followed(self) -> SparseWeight:
        """The same, found out by looking closer."""
        state = {name: cast(Tensor, t) for name, t in self._buffers.items() if name in STATE_KEYS}
        if state["bits"].is_meta or isinstance(state["bits"], FakeTensor):
            return _of_nothing(state["bits"], state["values"], self._shape())
        if self._packed is not None and self._holds(self._packed, state):
            self._settle()
            return self._packed  # (which follows its bits and values by itself)
        packed, activation = weight_of(state, copy=False), activation_of(state)
        if packed.shape != self._shape():
            raise ValueError(
                f"{_NAME}: shape is {packed.shape} in the state; the layer has {self._shape()}"
            )
        if not transformed():  # whose tensors are of no use afterwards
            self._buffers.update({"bits": packed.bits, "values": packed.values})
            self._packed, self._activation = packed, activation
            self._settle()
        return packed

    def _holds(self, packed: SparseWeight, state: Mapping[str, Tensor]) -> bool:
        """Whether these are the same tensors, maybe by other objects, and mean the same."""
        return (
            _same(state["bits"], packed.bits)
            and _same(state["values"], packed.values)
            and state["shape"].tolist() == list(self._shape())
            and state["plan"].tolist() == list(packed.numbered())
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
        missing = [name for name in WEIGHT_KEYS if name not in own]
        packed = None
        try:
            if prefix + "weight" in state_dict:
                raise ValueError(f"weight is dense; {_NAME} needs {', '.join(WEIGHT_KEYS)}")
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

    def _loaded(self, state: Mapping[str, Any], assign: bool) -> SparseWeight:
        """The weight of a state dict, checked against this layer; in its tensors where they fit."""
        activation = activation_of(state)
        if activation != self._activation:
            raise ValueError(
                f"{_NAME}: activation is {activation} in the state dict; the layer has "
                f"{self._activation}"
            )
        values = self.values
        packed = weight_of(state, copy=not assign, dtype=None if assign else values.dtype)
        if packed.shape != self._shape():
            raise ValueError(
                f"{_NAME}: shape is {packed.shape} in the state dict; the layer has {self._shape()}"
            )
        if assign or values.is_meta:
            return packed
        packed = packed.to(values.device)
        if packed.values.shape != values.shape:
            return packed
        with torch.no_grad():  # whoever holds them, or shares their memory, sees what is loaded
            bits, values = self.bits.copy_(packed.bits), values.copy_(packed.values)
        return dataclasses.replace(packed, bits=bits, values=values)

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
        bits, dtype = after["bits"], after["values"].dtype
        if packed is not None and (
            packed.bits.is_meta
            or bits.is_meta
            or not torch.equal(bits.to(packed.device), packed.bits)  # to_empty()
        ):
            packed = None
        if packed is not None:
            beside = fn(before["values"].new_empty(0, dtype=packed.input_dtype)).dtype
            if (dtype, beside) != (packed.dtype, packed.input_dtype):
                packed = packed.to(bits.device, dtype)  # whose plan and layouts depend on it
            elif bits is not packed.bits or after["values"] is not packed.values:
                packed = packed.to(bits.device)
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
        del state["_facts"]
        try:
            self._current().follow()
            state["_packed"] = self._packed
        except (TypeError, ValueError):
            state["_packed"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._settle()


def check_unwritten(packed: SparseWeight) -> None:
    """Compiled code asks when it runs (see versions); what is exported has to be right when it is made."""
    if not is_exporting() or is_dynamo_compiling():
        return
    if packed._made_of is None or packed._made_of != packed._now():
        raise RuntimeError(
            f"{_NAME}: bits or values were written to in place; call the layer once before it is exported"
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


def _of_nothing(bits: Tensor, values: Tensor, shape: tuple[int, int]) -> SparseWeight:
    """A weight of shapes alone."""
    prepared = {"bits": bits, "values": values, "quads": bits.new_empty(0)}
    return SparseWeight._trusted(
        **{name: prepared.get(name) for name in TENSORS},
        shape=shape,
        methods=one_method("quads"),
        plan_source="sparse",
        input_dtype=values.dtype,
    )


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
) -> SparseWeight:
    """The weight of a layer's state dict, of another dtype if asked; its own tensors unless copied."""
    own = {name: state[name] for name in WEIGHT_KEYS if name in state}
    for name in own.keys() & {"bits", "values"}:
        if not isinstance(own[name], Tensor):
            kind = type(own[name]).__name__
            raise TypeError(f"{_NAME}: {name} is a {kind} in the state dict; a tensor is needed")
        own[name] = own[name].detach().clone() if copy else own[name].detach()
    values = own.get("values")
    if dtype is None or not isinstance(values, Tensor) or values.dtype == dtype:
        return SparseWeight.from_state_dict(own)
    if torch.float64 in (dtype, values.dtype):  # which has plans of its own
        return SparseWeight.from_state_dict(own).to(dtype)
    return SparseWeight.from_state_dict({**own, "values": values.to(dtype)})
