"""A linear layer whose weight stays packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy
from typing_extensions import Self

from strop._core.arguments import instance
from strop._core.call_path import is_tracing
from strop._core.errors import check_tensors, in_the_name_of
from strop._core.library import FLOATING
from strop._core.report import size_text
from strop._linear.masked_linear import public_op
from strop._linear.masked_weight import MaskedWeight
from strop._linear.pack_codes import Format
from strop._linear.pack_weight import pack_weight
from strop._linear.packed_linear import PRODUCT_OF
from strop._linear.packed_weight import PackedWeight
from strop.nn._dense_layers import ACTIVATIONS, bias_for, check_linear, dense_layer, effective
from strop.nn._dense_weight import DenseWeight, dense_of
from strop.nn._packed_buffers import NUMBERED, PackedBuffers, check_unwritten

_NAME = "strop.nn.PackedLinear"


class PackedLinear(PackedBuffers):
    r"""``nn.Linear`` whose weight stays packed: with a mask, in codes, or both.

    .. math:: y = \mathrm{activation}(x W^T + b)

    The weight is a :class:`strop.PackedWeight` and is frozen: it is no parameter, and gradients go to
    the input and to ``bias`` alone, in training mode as in eval mode, between which nothing differs.

    The state dict has the weight's own, ``bias`` if there is one, and ``activation`` if there is one. All
    but bias, a parameter, are buffers, and they are what counts: what the kernels read is made anew from
    them at the next call after they were replaced, or torch wrote to them in place. (Writes through
    ``.data``, through numpy, or by another process are not seen; of codes, those that only compiled code
    meets.) Loading takes any packed weight of the same shape; a dense ``weight`` is refused. As a parameter
    would, the weight keeps its dtype and device unless ``assign=True``.

    ``.to()`` and its kind move the tensors. They cast values as they do a parameter, and plan anew for another
    dtype or kind of device; codes and scales stay what they are, and a cast is one of the dtype that
    ``to_dense`` restores. After ``to_empty()`` a call raises ValueError until a state is loaded. On the meta
    device shapes alone are computed; there are kernels for CPU and CUDA.

    Args:
        weight: of shape (N, K).
        bias: [N]; a parameter is taken as it is, not copied.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.

    Attributes:
        in_features: K.
        out_features: N.
        packed: the :class:`strop.PackedWeight`; ``print(layer.packed.plan())`` says how it runs.
        weight: the dense weight, [N, K] of the dtype that the input has, for code that reads a layer's
            weight: a tensor that is computed whenever it is used, and cannot be assigned or written to.
        bias: a parameter, or None.
        activation: as given; may be assigned.

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
        >>> mask = strop.prune_mask(linear.weight, sparsity=0.9)
        >>> layer = strop.nn.PackedLinear.from_dense(linear, mask, activation="relu")
        >>> sorted(layer.state_dict())
        ['activation', 'bias', 'bits', 'plan', 'shape', 'values']

    """

    def __init__(
        self, weight: PackedWeight, bias: Tensor | None = None, *, activation: str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(weight, PackedWeight):
            raise TypeError(
                f"{_NAME}: weight is a {type(weight).__name__}; a PackedWeight is needed"
            )
        check_tensors(_NAME, bias=bias)
        self.out_features, self.in_features = weight.shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"{_NAME}: bias has shape {list(bias.shape)}; [{self.out_features}] is needed"
            )
        if bias is not None and not _goes_with(bias.dtype, weight.dtype):
            wide = weight.dtype == torch.float64
            raise TypeError(
                f"{_NAME}: bias has dtype {str(bias.dtype).removeprefix('torch.')}; "
                f"{'float64' if wide else 'float32, bfloat16 or float16'} is needed"
            )
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias)
        self.register_parameter("bias", bias)
        self._adopt(weight, _known(activation))

    @classmethod
    def from_dense(
        cls,
        linear: nn.Linear,
        mask: Tensor | None = None,
        *,
        format: Format | None = None,
        block_size: Sequence[int] | None = None,
        scale: Tensor | None = None,
        zero_point: Tensor | None = None,
        symmetric: bool = True,
        dtype: torch.dtype | None = None,
        activations: str | None = None,
        rows: int | Sequence[int] | None = None,
        plan: str = "auto",
        backward: bool = False,
        activation: str | None = None,
    ) -> Self:
        """A layer that computes what an ``nn.Linear`` does, with its weight packed.

        The weight is copied, and its masks of ``torch.nn.utils.prune`` are taken. The bias is the
        same parameter, for an optimizer to go on with; it is cast and copied only where one of both
        would be float64.

        Args:
            linear: the layer; it is not changed.
            mask: as of :func:`strop.pack_weight`, and so are all others but the last.
            format: the number format; None keeps values.
            block_size: weights that share a scale.
            scale: of the blocks.
            zero_point: likewise.
            symmetric: of a chosen scale.
            dtype: of the values.
            activations: what rows of the input are quantized to.
            rows: of the input.
            plan: how the method is chosen.
            backward: whether to prepare the input's gradient.
            activation: what to apply to the result.

        Raises:
            ValueError: for shapes that do not fit, unknown names, and a layer that is not initialised or
                on meta.
            TypeError: for another type of layer, and dtypes that do not fit.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(64, 4, bias=False)
            >>> strop.nn.PackedLinear.from_dense(linear, format="nf4").packed.format
            'nf4'
            >>> strop.nn.PackedLinear.from_dense(linear, torch.eye(4, 64) > 0).packed.nnz
            4

        """
        check_linear(_NAME, linear)
        with in_the_name_of(_NAME):
            weight = pack_weight(
                effective(linear, "weight"),
                mask,
                format=format,
                block_size=block_size,
                scale=scale,
                zero_point=zero_point,
                symmetric=symmetric,
                dtype=dtype,
                activations=activations,
                rows=rows,
                plan=plan,
                backward=backward,
            )
        made = cls(weight, bias_for(linear, weight.dtype), activation=activation)
        return made.train(linear.training)

    def to_dense(self) -> nn.Module:
        """An ``nn.Linear`` of the weight that this one stands for, and a copy of the bias.

        Its dtype is that of the input which the weight is planned for. With an activation it is an
        ``nn.Sequential`` of the layer and the activation's module.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(8, 4)
            >>> dense = strop.nn.PackedLinear.from_dense(linear).to_dense()
            >>> torch.equal(dense.weight, linear.weight)
            True

        """
        weight = dense_of(self.packed)
        return dense_layer(weight, self.bias, self.activation, self.training)

    @property
    def packed(self) -> PackedWeight:
        """The weight, and what the kernels read of it."""
        if is_compiling() and self._packed is not None:
            check_unwritten(self._packed)
            return self._packed
        packed = self._current()
        packed.follow()
        return packed

    @property
    def weight(self) -> Tensor:
        """The dense weight, for code that reads it: computed when it is used, read-only."""
        packed = self.packed
        return dense_of(packed) if is_compiling() else DenseWeight(packed)

    @property
    def activation(self) -> str | None:
        """What is applied to the result."""
        return self._activation

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(
                f"{_NAME}: weight cannot be assigned: it is computed of what is packed; make a new layer "
                "by from_dense, or load a state dict"
            )
        if name == "activation" and not isinstance(value, Tensor):
            known, packed = _known(value), self.packed
            self._buffers.pop("activation", None)
            self._adopt(packed, known)
        elif name == "activation":  # (a class's property hides a buffer from nn.Module)
            self._buffers["activation"] = value
        else:
            super().__setattr__(name, value)

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`strop.packed_linear`; nested tensors are taken as ``nn.Linear`` takes them."""
        if isinstance(input, Tensor):
            if input.is_nested:
                return _nested(self, input)
            if is_tracing():
                return _traced(self, input, self.packed)
        elif isinstance(input, Proxy):
            return _symbolic(self, input)
        try:
            bias = self._parameters["bias"]  # (past nn.Module's __getattr__: 0.8 us less)
        except KeyError:  # torch.nn.utils.prune masks it
            bias = self.bias
        packed = self._current()
        return PRODUCT_OF[type(packed)](input, packed, bias, self._activation)

    def extra_repr(self) -> str:
        """Shape, what is packed, bytes and plan."""
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
        facts += [f"format={weight.format}"] if weight.format else []
        facts += [f"activations={weight.activations}"] if weight.activations else []
        masked = isinstance(weight, MaskedWeight)
        facts += [f"{weight.sparsity:.1%} pruned"] if masked else []
        facts += [f"{saved} saved, {size_text(weight.nbytes)} in memory"]
        if isinstance(weight, MaskedWeight):
            methods = ", ".join(dict.fromkeys(weight.method_names()))
            facts += [f"plan={weight.plan_source}: {methods}"]
        return ", ".join(facts)


def _goes_with(dtype: torch.dtype, weight: torch.dtype) -> bool:
    return dtype in FLOATING and (weight == torch.float64 or dtype != torch.float64)


def _known(activation: str | None) -> str | None:
    if activation is not None:
        instance(_NAME, "activation", activation, str, "a string or None")
    if activation not in NUMBERED:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"{_NAME}: activation is {activation!r}; None, {known} are known")
    return activation


def _traced(layer: PackedLinear, input: Tensor, packed: PackedWeight) -> Tensor:
    """By the op that graphs contain, of the tensors by which the module knows the weight."""
    if isinstance(packed, MaskedWeight) and packed.format is None:
        kept = (layer.get_buffer("bits"), layer.get_buffer("values"))
        return public_op(input, packed, layer.bias, layer._activation, kept)
    return PRODUCT_OF[type(packed)](input, packed, layer.bias, layer._activation)


def _symbolic(layer: PackedLinear, input: Proxy) -> Any:
    """What torch.fx traces: the layer as a whole; by itself, its op."""
    path = input.tracer.path_of_module(layer)  # type: ignore[attr-defined]
    if path:
        return input.tracer.create_proxy("call_module", path, (input,), {})
    return _traced(layer, cast(Tensor, input), layer.packed)


def _nested(layer: PackedLinear, input: Tensor) -> Tensor:
    if input.layout == torch.jagged:
        jagged = cast(Any, input)
        return torch.nested.nested_tensor_from_jagged(
            layer(jagged.values()), jagged.offsets(), jagged.lengths()
        )
    return torch.nested.as_nested_tensor([layer(x) for x in input.unbind()])
