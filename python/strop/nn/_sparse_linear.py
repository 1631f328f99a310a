"""A linear layer whose pruned weight is neither stored nor multiplied."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from typing_extensions import Self

from strop import _sparse_plan
from strop._report import size_text
from strop._sparse import sparse_linear
from strop._sparse_pack import pack_sparse
from strop._sparse_weight import SparseWeight

_NAME = "strop.nn.SparseLinear"
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
}
_NUMBERED = (None, *ACTIVATIONS)  # as a state dict has them
WEIGHT_KEYS = ("bits", "values", "shape", "plan")
STATE_KEYS = (*WEIGHT_KEYS, "activation")


class SparseLinear(nn.Module):
    r"""``nn.Linear`` with a pruned weight, for inference on a CPU.

    .. math:: y = \mathrm{activation}(x W^T + b)

    The weight is a :class:`strop.SparseWeight` and is frozen: it is no parameter, and gradients go to
    the input and to ``bias`` alone, in training mode as in eval mode, between which nothing differs.

    The state dict has ``bits``, ``values``, ``shape`` and ``plan`` of the weight, ``bias`` if there is
    one, and ``activation`` if there is one; every entry is a tensor. Loading takes any number of
    weights that stayed and any plan, but for the same shape; a dense ``weight`` is refused. As a
    parameter would, the weight keeps its dtype and device unless ``assign=True``.

    ``.to()`` and its kind move and cast the weight as they do a parameter, and a plan by the table is
    made anew for another dtype or kind of device. After ``to_empty()`` everything is pruned, until a state is loaded. On
    the meta device shapes alone are computed; there are kernels for CPU and CUDA.

    Args:
        weight: of shape (N, K).
        bias: [N]; a parameter is taken as it is, not copied.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.

    Attributes:
        in_features: K.
        out_features: N.
        weight: the :class:`strop.SparseWeight`; ``print(layer.weight.plan())`` says how it runs.
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
        if bias is not None and not isinstance(bias, Tensor):
            raise TypeError(f"{_NAME}: bias is a {type(bias).__name__}; a tensor is needed")
        self.out_features, self.in_features = weight.shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"{_NAME}: bias has shape {list(bias.shape)}; [{self.out_features}] is needed"
            )
        if activation is not None and activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"{_NAME}: activation is {activation!r}; None, {known} are known")
        self.weight = weight
        self.bias = bias if bias is None or isinstance(bias, nn.Parameter) else nn.Parameter(bias)
        self.activation = activation

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
                is not initialised or not on a CPU.
            TypeError: for another type of layer, and dtypes that do not fit.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(8, 4, bias=False)
            >>> layer = strop.nn.SparseLinear.from_dense(linear, torch.eye(4, 8) > 0)
            >>> layer.weight.nnz
            4

        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{_NAME}: linear is a {type(linear).__name__}; an nn.Linear is needed")
        if linear.weight.device.type == "meta":
            raise ValueError(f"{_NAME}: linear is on meta, where there are no weights to pack")
        weight = pack_sparse(effective(linear, "weight"), mask, dtype=dtype, rows=rows, plan=plan)
        made = cls(weight, bias_for(linear, weight.dtype), activation=activation)
        return made.train(linear.training)

    def to_dense(self) -> nn.Module:
        """An ``nn.Linear`` of the same weight with its zeros, and a copy of the bias.

        Its dtype is that of the input which the weight is planned for.

        With an activation it is an ``nn.Sequential`` of the layer and the activation's module.

        Example:
            >>> import strop, torch
            >>> linear = torch.nn.Linear(8, 4)
            >>> dense = strop.nn.SparseLinear.from_dense(linear).to_dense()
            >>> torch.equal(dense.weight, linear.weight)
            True

        """
        weight = self.weight.to_dense().to(self.weight.input_dtype)
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, "meta")
        linear.weight = nn.Parameter(weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().to(weight.dtype, copy=True))
        if self.activation is None:
            return linear.train(self.training)
        return nn.Sequential(linear, ACTIVATIONS[self.activation]()).train(self.training)

    def forward(self, input: Tensor) -> Tensor:
        """See :func:`strop.sparse_linear`; nested tensors are taken as ``nn.Linear`` takes them."""
        if input.is_nested:
            return _nested(self, input)
        return sparse_linear(input, self.weight, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        """Shape, sparsity, bytes and plan."""
        weight = self.weight
        saved = size_text(sum(t.nbytes for t in weight.state_dict().values()))
        facts = [
            f"in_features={self.in_features}",
            f"out_features={self.out_features}",
            f"bias={self.bias is not None}",
            *([f"activation={self.activation}"] if self.activation else []),
            f"{weight.sparsity:.1%} pruned",
            f"{saved} saved, {size_text(weight.nbytes)} in memory",
            f"plan={weight.why}: {', '.join(dict.fromkeys(ways(weight)))}",
        ]
        return ", ".join(facts)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self.weight.state_dict().items():
            destination[prefix + name] = tensor
        if self.activation is not None:
            destination[prefix + "activation"] = torch.tensor(_NUMBERED.index(self.activation))

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
        own = {
            name: state_dict[prefix + name] for name in STATE_KEYS if prefix + name in state_dict
        }
        rest = {k: v for k, v in state_dict.items() if k.removeprefix(prefix) not in own}
        weight = self.weight
        missing = [name for name in WEIGHT_KEYS if name not in own]
        try:
            if prefix + "weight" in state_dict:
                raise ValueError(f"weight is dense; {_NAME} needs {', '.join(WEIGHT_KEYS)}")
            if not missing:
                assign = local_metadata.get("assign_to_params_buffers", False)
                weight = self._weight_of(own, assign)
        except (TypeError, ValueError) as error:
            error_msgs.append(f"{prefix.removesuffix('.') or 'the layer'}: {error}")
            return
        missing_keys.extend(prefix + name for name in missing)
        arguments = (local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(rest, prefix, *arguments)
        self.weight = weight

    def _weight_of(self, state: dict[str, Any], assign: bool) -> SparseWeight:
        """The weight of a state dict, checked against this layer."""
        activation = activation_of(state)
        if activation != self.activation:
            raise ValueError(
                f"{_NAME}: activation is {activation} in the state dict; the layer has "
                f"{self.activation}"
            )
        weight = weight_of(state, copy=not assign, dtype=None if assign else self.weight.dtype)
        if weight.shape != self.weight.shape:
            raise ValueError(
                f"{_NAME}: shape is {weight.shape} in the state dict; the layer has "
                f"{self.weight.shape}"
            )
        return weight if assign else weight.to(self.weight.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weight = _applied(self.weight, fn)
        return self


def _nested(layer: SparseLinear, input: Tensor) -> Tensor:
    if input.layout == torch.jagged:
        jagged = cast(Any, input)
        return torch.nested.nested_tensor_from_jagged(
            layer(jagged.values()), jagged.offsets(), jagged.lengths()
        )
    return torch.nested.as_nested_tensor([layer(x) for x in input.unbind()])


def ways(weight: SparseWeight) -> list[str]:
    """The way of each class of rows."""
    return [_sparse_plan.WAYS[number - 1] for number in weight.chosen]


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


def activation_of(state: Mapping[str, Any]) -> str | None:
    """The activation of a layer's state dict."""
    number = state.get("activation")
    if number is None:
        return None
    known = isinstance(number, Tensor) and number.dtype == torch.int64 and number.numel() == 1
    if not known or not 0 <= int(number) < len(_NUMBERED):
        raise ValueError(f"{_NAME}: activation is {number!r} in the state dict, which is unknown")
    return _NUMBERED[int(number)]


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


def _applied(weight: SparseWeight, fn: Callable[[Tensor], Tensor]) -> SparseWeight:
    """What ``.to()``, ``.half()``, ``share_memory()`` and the like make of a weight."""
    was_meta = weight.device.type == "meta"
    dtype = fn(weight.values[:0]).dtype
    beside = fn(weight.values.new_empty(0, dtype=weight.input_dtype)).dtype
    if (dtype, beside) != (weight.dtype, weight.input_dtype) and not was_meta:
        weight = weight.to(dtype)  # whose plan and layouts depend on it
    there = fn(weight.bits[:0]).device
    if {there.type, weight.device.type} == {"cpu", "cuda"}:
        return weight.to(there)  # where it is planned for that kind of device
    before = {f.name: getattr(weight, f.name) for f in dataclasses.fields(weight)}
    before = {name: t for name, t in before.items() if isinstance(t, Tensor)}
    after = {name: fn(tensor) for name, tensor in before.items()}
    if all(after[name] is tensor for name, tensor in before.items()):
        return weight
    is_meta = after["bits"].device.type == "meta"
    if not is_meta and (was_meta or _differ(before, after)):  # to_empty: nothing to go on with
        plan = "table" if weight.why == "measure" else weight.why
        nothing = pack_sparse(torch.zeros(weight.shape, dtype=dtype, device="cpu"), plan=plan)
        return nothing.to(after["bits"].device)
    return dataclasses.replace(weight, **cast(Any, after))


def _differ(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """Whether bytes, which no cast changes, are others."""
    return any(
        t.dtype == torch.uint8 and not torch.equal(t, after[name].to(t.device))
        for name, t in before.items()
    )
