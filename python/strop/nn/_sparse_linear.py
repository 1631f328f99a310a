"""A linear layer whose pruned weight is neither stored nor multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy
from torch.nn.parameter import is_lazy
from typing_extensions import Self

from strop._core.arguments import instance
from strop._core.call_path import is_tracing
from strop._core.errors import check_tensors, in_the_name_of
from strop._core.library import FLOATING
from strop._core.report import size_text
from strop._linear import plans
from strop._linear.pack import pack_sparse
from strop._linear.sparse_linear import eager_linear, public_op
from strop._linear.sparse_weight import SparseWeight
from strop.nn._dense_layers import ACTIVATIONS, check_linear, dense_layer
from strop.nn._dense_weight import DenseWeight, dense_of
from strop.nn._packed_buffers import NUMBERED, PackedBuffers, check_unwritten

_NAME = "strop.nn.SparseLinear"


class SparseLinear(PackedBuffers):
    r"""``nn.Linear`` with a pruned weight, on a CPU or a GPU.

    .. math:: y = \mathrm{activation}(x W^T + b)

    The weight is a :class:`strop.SparseWeight` and is frozen: it is no parameter, and gradients go to
    the input and to ``bias`` alone, in training mode as in eval mode, between which nothing differs.

    The state dict has ``bits``, ``values``, ``shape`` and ``plan`` of the weight, ``bias`` if there is
    one, and ``activation`` if there is one. All but bias, a parameter, are buffers, and they are what
    counts: what the kernels read is made anew from them at the next call after they were replaced, or torch
    wrote to them in place. (Writes through ``.data``, through numpy, or by another process are not seen.)
    Loading takes any number of weights that stayed and any plan, but for the same shape; a
    dense ``weight`` is refused. As a parameter would, the weight keeps its dtype and device unless
    ``assign=True``.

    ``.to()`` and its kind move and cast the values as they do a parameter, and a plan by the table is
    made anew for another dtype or kind of device. After ``to_empty()`` a call raises ValueError until a
    state is loaded. On the meta device shapes alone are computed; there are kernels for CPU and CUDA.

    Args:
        weight: of shape (N, K).
        bias: [N]; a parameter is taken as it is, not copied.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.

    Attributes:
        in_features: K.
        out_features: N.
        packed: the :class:`strop.SparseWeight`; ``print(layer.packed.plan())`` says how it runs.
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
        >>> mask = strop.prune_mask(linear.weight, sparsity=0.9)
        >>> layer = strop.nn.SparseLinear.from_dense(linear, mask, activation="relu")
        >>> layer(torch.randn(2, 7, 64)).shape
        torch.Size([2, 7, 32])
        >>> sorted(layer.state_dict())
        ['activation', 'bias', 'bits', 'plan', 'shape', 'values']

    """

    def __init__(
        self, weight: SparseWeight, bias: Tensor | None = None, *, activation: str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(weight, SparseWeight):
            raise TypeError(
                f"{_NAME}: weight is a {type(weight).__name__}; a SparseWeight is needed"
            )
        check_tensors(_NAME, bias=bias)
        self.out_features, self.in_features = weight.shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"{_NAME}: bias has shape {list(bias.shape)}; [{self.out_features}] is needed"
            )
        if bias is not None and bias.dtype not in FLOATING:
            raise TypeError(f"{_NAME}: bias has dtype {bias.dtype}; a floating dtype is needed")
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
        dtype: torch.dtype | None = None,
        rows: int | Sequence[int] | None = None,
        plan: str = "table",
        activation: str | None = None,
    ) -> Self:
        """A layer that computes what an ``nn.Linear`` does with its pruned weight.

        The weight is copied, and its masks of ``torch.nn.utils.prune`` are taken. The bias is the
        same parameter, for an optimizer to go on with; it is cast and copied only where one of both
        would be float64.

        Args:
            linear: the layer; it is not changed.
            mask: bool of the weight's shape, True keeps; None keeps what is not zero.
            dtype: of the values; None is the weight's.
            rows: of the input, as of :func:`strop.pack_sparse`.
            plan: likewise.
            activation: what to apply to the result.

        Raises:
            ValueError: for shapes that do not fit, unknown plans and activations, and a layer that
                is not initialised or on meta.
            TypeError: for another type of layer, and dtypes that do not fit.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(8, 4, bias=False)
            >>> layer = strop.nn.SparseLinear.from_dense(linear, torch.eye(4, 8) > 0)
            >>> layer.packed.nnz
            4

        """
        check_linear(_NAME, linear)
        with in_the_name_of(_NAME):
            weight = pack_sparse(
                effective(linear, "weight"), mask, dtype=dtype, rows=rows, plan=plan
            )
        made = cls(weight, bias_for(linear, weight.dtype), activation=activation)
        return made.train(linear.training)

    def to_dense(self) -> nn.Module:
        """An ``nn.Linear`` of the same weight with its zeros, and a copy of the bias.

        Its dtype is that of the input which the weight is planned for. With an activation it is an ``nn.Sequential`` of the layer and the activation's module.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(8, 4)
            >>> dense = strop.nn.SparseLinear.from_dense(linear).to_dense()
            >>> torch.equal(dense.weight, linear.weight)
            True

        """
        weight = dense_of(self.packed)
        return dense_layer(weight, self.bias, self.activation, self.training)

    @property
    def packed(self) -> SparseWeight:
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
                f"{_NAME}: weight cannot be assigned: it is computed from bits and values; make a new layer "
                "by from_dense, or load a state dict"
            )
        if name == "activation" and not isinstance(value, Tensor):
            self._buffers.pop("activation", None)
            self._adopt(self.packed, _known(value))
        elif name == "activation":  # (a class's property hides a buffer from nn.Module)
            self._buffers["activation"] = value
        else:
            super().__setattr__(name, value)

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`strop.sparse_linear`; nested tensors are taken as ``nn.Linear`` takes them."""
        if isinstance(input, Tensor):
            if input.is_nested:
                return _nested(self, input)
            if is_tracing():
                kept = (self.bits, self.values)
                return public_op(input, self.packed, self.bias, self._activation, kept)
        elif isinstance(input, Proxy):
            return _symbolic(self, input)
        try:
            bias = self._parameters["bias"]  # (past nn.Module's __getattr__: 0.8 us less)
        except KeyError:  # torch.nn.utils.prune masks it
            bias = self.bias
        return eager_linear(input, self._current(), bias, self._activation)

    def extra_repr(self) -> str:
        """Shape, sparsity, bytes and plan."""
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
        facts += [
            f"{weight.sparsity:.1%} pruned",
            f"{saved} saved, {size_text(weight.nbytes)} in memory",
            f"plan={weight.plan_source}: {', '.join(dict.fromkeys(ways(weight)))}",
        ]
        return ", ".join(facts)


def _known(activation: str | None) -> str | None:
    if activation is not None:
        instance(_NAME, "activation", activation, str, "a string or None")
    if activation not in NUMBERED:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"{_NAME}: activation is {activation!r}; None, {known} are known")
    return activation


def _symbolic(layer: SparseLinear, input: Proxy) -> Any:
    """What torch.fx traces: the layer as a whole; by itself, its op."""
    path = input.tracer.path_of_module(layer)  # type: ignore[attr-defined]
    if path:
        return input.tracer.create_proxy("call_module", path, (input,), {})
    return public_op(cast(Tensor, input), layer.packed, layer.bias, layer.activation)


def _nested(layer: SparseLinear, input: Tensor) -> Tensor:
    if input.layout == torch.jagged:
        jagged = cast(Any, input)
        return torch.nested.nested_tensor_from_jagged(
            layer(jagged.values()), jagged.offsets(), jagged.lengths()
        )
    return torch.nested.as_nested_tensor([layer(x) for x in input.unbind()])


def ways(weight: SparseWeight) -> list[str]:
    """The way of each class of rows."""
    return [plans.METHOD_OF[number] for number in weight.methods]


def masked(linear: nn.Module, name: str) -> bool:
    """Whether ``torch.nn.utils.prune`` masks a parameter."""
    return hasattr(linear, f"{name}_orig") and hasattr(linear, f"{name}_mask")


def effective(linear: nn.Linear, name: str) -> Tensor:
    """A weight or bias as the layer would use it, with its mask of ``torch.nn.utils.prune``.

    (The attribute itself is what the last forward made of both.)
    """
    found: Tensor = getattr(linear, name)
    if is_lazy(found):
        raise ValueError(f"{_NAME}: the layer's {name} is not initialised; run the model once")
    if masked(linear, name):
        found = getattr(linear, f"{name}_orig").detach() * getattr(linear, f"{name}_mask")
    return found.detach()


def bias_for(linear: nn.Linear, dtype: torch.dtype) -> Tensor | None:
    """The layer's bias beside values of a dtype."""
    if linear.bias is None:
        return None
    bias = effective(linear, "bias") if masked(linear, "bias") else linear.bias
    if bias.dtype != dtype and torch.float64 in (bias.dtype, dtype):
        return nn.Parameter(bias.detach().to(dtype), requires_grad=linear.bias.requires_grad)
    return bias
