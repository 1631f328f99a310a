"""A linear layer whose weight stays in codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.compiler import is_compiling
from torch.fx import Proxy
from typing_extensions import Self

from strop._core.call_path import transformed
from strop._core.errors import check_tensors, in_the_name_of
from strop._core.report import size_text
from strop._linear.activations import checked_activation
from strop._linear.coded_weight import DTYPES, PackedWeight
from strop._linear.pack_weight import pack_weight
from strop._linear.packed_linear import packed_linear
from strop._quantize.formats import NumberFormat
from strop._quantize.quantized_tensor import QuantizedTensor
from strop.nn._dense_layers import check_linear, dense_layer
from strop.nn._packed_buffers import NUMBERED, activation_of
from strop.nn._sparse_linear import bias_for, effective

_NAME = "strop.nn.PackedLinear"
_CODES = ("codes", "scale", "zero_point", "tensor_scale")
_KEYS = (*_CODES, "shape", "plan", "activation")
_FACTS = ("format", "block_size", "shape", "dtype", "activations")
_NEEDED = ("codes", "scale", "shape", "plan")


class PackedLinear(nn.Module):
    r"""``nn.Linear`` with a weight in codes.

    .. math:: y = \mathrm{activation}(x W^T + b)

    The weight is a :class:`strop.PackedWeight` and is frozen: it is no parameter, and gradients go to the
    input and to ``bias`` alone.

    The state dict has the weight's own, ``bias`` if there is one, and ``activation`` if there is one. All
    but bias, a parameter, are buffers, and they are what counts: what the kernels read is made anew from
    them at the next call after they were replaced, or torch wrote to them in place. (Writes through
    ``.data``, through numpy, or by another process are not seen, nor those that only compiled code meets.)
    Loading takes a weight of the same shape, in any format.

    ``.to()`` and its kind move codes and scales and never cast them: a cast is one of the dtype that
    ``to_dense`` restores, and of the bias. After ``to_empty()`` a call raises ValueError until a state is
    loaded.

    Args:
        weight: of shape (N, K).
        bias: [N]; a parameter is taken as it is, not copied.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.

    Attributes:
        in_features: K.
        out_features: N.
        packed: the :class:`strop.PackedWeight`.
        bias: a parameter, or None.
        activation: as given.

    Shape:
        Input [..., K], output [..., N].

    Raises:
        ValueError: for a bias whose shape does not fit, and unknown activations.
        TypeError: for a weight or bias of another type.

    Example:
        >>> import strop, torch
        >>> linear = torch.nn.Linear(64, 32)
        >>> layer = strop.nn.PackedLinear.from_dense(linear, format="int8", activations="uint8")
        >>> layer(torch.randn(2, 7, 64)).shape
        torch.Size([2, 7, 32])
        >>> sorted(layer.state_dict())
        ['bias', 'codes', 'plan', 'scale', 'shape']

    """

    in_features: int
    out_features: int
    bias: nn.Parameter | None
    activation: str | None
    _packed: PackedWeight | None
    _facts: dict[str, Any]
    _made_of: tuple[Any, ...]
    _loaded: bool

    def __init__(
        self, weight: PackedWeight, bias: Tensor | None = None, *, activation: str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(weight, PackedWeight):
            raise TypeError(
                f"{_NAME}: weight is a {type(weight).__name__}; a PackedWeight is needed"
            )
        checked_activation(_NAME, activation)
        check_tensors(_NAME, bias=bias)
        self.out_features, self.in_features = weight.shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"{_NAME}: bias has shape {list(bias.shape)}; [{self.out_features}] is needed"
            )
        if bias is not None and bias.dtype not in DTYPES:
            raise TypeError(
                f"{_NAME}: bias has dtype {str(bias.dtype).removeprefix('torch.')}; float32, "
                "bfloat16 or float16 is needed"
            )
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias)
        self.register_parameter("bias", bias)
        self.activation = activation
        for name in _CODES:
            self.register_buffer(name, None)
        self._adopt(weight)

    @classmethod
    def from_dense(
        cls,
        linear: nn.Linear,
        *,
        format: str | torch.dtype | NumberFormat,
        block_size: Sequence[int] | None = None,
        symmetric: bool = True,
        activations: str | None = None,
        activation: str | None = None,
    ) -> Self:
        """A layer that computes what an ``nn.Linear`` does, with its weight in codes.

        The bias is the same parameter.

        Args:
            linear: the layer; it is not changed.
            format: as of :func:`strop.pack_weight`.
            block_size: likewise.
            symmetric: likewise.
            activations: likewise.
            activation: what to apply to the result.

        Raises:
            ValueError: for unknown names, and a layer that is not initialised or on meta.
            TypeError: for another type of layer, and dtypes that do not fit.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(64, 4, bias=False)
            >>> strop.nn.PackedLinear.from_dense(linear, format="nf4").packed.format
            'nf4'

        """
        check_linear(_NAME, linear)
        with in_the_name_of(_NAME):
            weight = pack_weight(
                effective(linear, "weight"),
                format=format,
                block_size=block_size,
                symmetric=symmetric,
                activations=activations,
            )
        made = cls(weight, bias_for(linear, weight.dtype), activation=activation)
        return made.train(linear.training)

    def to_dense(self) -> nn.Module:
        """An ``nn.Linear`` of the weight that the codes stand for, and a copy of the bias.

        With an activation it is an ``nn.Sequential`` of the layer and the activation's module.

        Example:
            >>> import strop, torch
            >>> layer = strop.nn.PackedLinear.from_dense(torch.nn.Linear(8, 4), format="int8")
            >>> layer.to_dense().weight.shape
            torch.Size([4, 8])

        """
        weight = self.packed.to_dense()
        return dense_layer(weight, self.bias, self.activation, self.training)

    @property
    def packed(self) -> PackedWeight:
        """The weight, and what the kernels read of it."""
        if is_compiling() and self._packed is not None:
            return self._packed
        return self._current()

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`strop.packed_linear`."""
        if isinstance(input, Proxy):
            path = input.tracer.path_of_module(self)
            if path:
                return input.tracer.create_proxy("call_module", path, (input,), {})
        return packed_linear(input, self.packed, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        """Shape, format and bytes."""
        facts = [
            f"in_features={self.in_features}",
            f"out_features={self.out_features}",
            f"bias={self.bias is not None}",
            *([f"activation={self.activation}"] if self.activation else []),
        ]
        try:
            weight = self.packed
        except (TypeError, ValueError):  # after to_empty()
            return ", ".join([*facts, "not loaded"])
        saved = size_text(sum(t.nbytes for t in weight.state_dict().values()))
        how = [f"activations={weight.activations}"] if weight.activations else []
        memory = f"{saved} saved, {size_text(weight.nbytes)} in memory"
        return ", ".join([*facts, f"format={weight.format}", *how, memory])

    def _adopt(self, weight: PackedWeight) -> None:
        """Makes a weight the module's."""
        self._buffers.update({name: getattr(weight, name) for name in _CODES})
        self._facts = {name: getattr(weight, name) for name in _FACTS}
        self._packed, self._loaded = weight, True
        self._settle()

    def _settle(self) -> None:
        """Takes the weight for that of the buffers as they are."""
        for name in _CODES:
            tensor = self._buffers[name]
            if tensor is not None and tensor.is_inference():  # which has no version
                with torch.inference_mode(False):
                    self._buffers[name] = tensor.clone()
        kept = [self._buffers[name] for name in _CODES]
        self._made_of = (*kept, *(0 if t is None else t._version for t in kept))

    def _current(self) -> PackedWeight:
        """The weight that the buffers hold."""
        packed, buffers = self._packed, cast(dict[str, Any], self._buffers)
        codes, scale, zero, whole, a, b, c, d = self._made_of
        if (
            packed is not None
            and codes is buffers["codes"]
            and scale is buffers["scale"]
            and zero is buffers["zero_point"]
            and whole is buffers["tensor_scale"]
            and codes._version == a
            and scale._version == b
            and (zero is None or zero._version == c)
            and (whole is None or whole._version == d)
        ):
            return packed
        return self._followed()

    def _followed(self) -> PackedWeight:
        """The same, made anew of the buffers."""
        if not self._loaded:
            raise ValueError(
                f"{_NAME}: the weight has no values since to_empty(); load a state dict"
            )
        tensors: dict[str, Any] = {name: self._buffers[name] for name in _CODES}
        codes = tensors["codes"]
        if codes.is_meta or isinstance(codes, FakeTensor):
            return PackedWeight._trusted(**tensors, layout=None, **self._facts)
        facts = dict(self._facts)
        activations = facts.pop("activations")
        with in_the_name_of(_NAME):
            quantized = QuantizedTensor(**tensors, **facts)
        packed = PackedWeight.of(quantized, activations)
        if not transformed():  # whose tensors are of no use afterwards
            self._adopt(packed)
        return packed

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        tensors: dict[str, Any] = {name: self._buffers[name] for name in _CODES}
        beside = PackedWeight._trusted(**tensors, layout=None, **self._facts).state_dict()
        destination.update({prefix + name: beside[name] for name in ("shape", "plan")})
        if self.activation is not None:
            destination[prefix + "activation"] = torch.tensor(NUMBERED.index(self.activation))

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
        own = {name: state_dict[prefix + name] for name in _KEYS if prefix + name in state_dict}
        missing = [name for name in _NEEDED if name not in own]
        missing_keys.extend(prefix + name for name in missing)
        if not missing:
            try:
                assign = local_metadata.get("assign_to_params_buffers", False)
                self._adopt(self._read(own, assign))
            except (TypeError, ValueError) as error:
                error_msgs.append(f"{prefix.removesuffix('.') or 'the layer'}: {error}")
        rest = {k: v for k, v in state_dict.items() if k.removeprefix(prefix) not in own}
        before = {name: self._buffers.pop(name) for name in _CODES}
        try:
            super()._load_from_state_dict(
                rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
        finally:
            self._buffers.update(before)

    def _read(self, own: dict[str, Any], assign: bool) -> PackedWeight:
        """The weight of a state dict, checked against this layer; in its tensors where they fit."""
        if (activation := activation_of(own)) != self.activation:
            raise ValueError(
                f"{_NAME}: activation is {activation} in the state dict; the layer has "
                f"{self.activation}"
            )
        held = {name: tensor for name, tensor in own.items() if name != "activation"}
        weight = PackedWeight.from_state_dict(held)
        if weight.shape != self._facts["shape"]:
            raise ValueError(
                f"{_NAME}: shape is {list(weight.shape)} in the state dict; the layer has "
                f"{list(self._facts['shape'])}"
            )
        codes = self._buffers["codes"]
        if assign or codes is None or codes.is_meta:
            return weight
        weight = weight.to(codes.device, self._facts["dtype"])
        with (
            torch.no_grad()
        ):  # whoever holds the tensors, or shares their memory, sees what is loaded
            tensors = {name: _into(self._buffers[name], getattr(weight, name)) for name in _CODES}
        facts = {name: getattr(weight, name) for name in _FACTS}
        return PackedWeight._trusted(**tensors, layout=weight.layout, **facts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = None
        with suppress(ValueError, TypeError):
            before = self._current()
        tensors: dict[str, Any] = {name: self._buffers.pop(name) for name in _CODES}
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._buffers.update(tensors)
        beside = PackedWeight._trusted(**tensors, layout=None, **self._facts)
        moved = beside.quantized().applied(fn)
        there = moved.codes
        known = before is not None and not before.codes.is_meta and not there.is_meta
        if known and before is not None and torch.equal(there.to(before.device), before.codes):
            self._adopt(PackedWeight.of(moved, self._facts["activations"]))
            return self
        self._facts["dtype"] = moved.dtype
        self._buffers.update({name: getattr(moved, name) for name in _CODES})
        self._packed, self._loaded = None, there.is_meta
        self._settle()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self._packed is not None:
            self._adopt(self._packed)


def _into(held: Tensor | None, found: Tensor | None) -> Tensor | None:
    """What was found, in the tensor that is held where it fits; else a copy of its own."""
    if found is None:
        return None
    if held is None or (held.shape, held.dtype) != (found.shape, found.dtype):
        return found.detach().clone()
    return held.copy_(found)
