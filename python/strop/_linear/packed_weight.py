"""Weights that stay packed: what those with a mask and those in codes have in common."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.compiler import is_compiling
from typing_extensions import Self

from strop._core.library import FLOATING
from strop._core.tensor_dataclass import TensorDataclass, check_state

_NAME = "strop.PackedWeight"
_TEXT = 256  # bytes that a plan is filled up to, so that most fit each other's tensor
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}
"""By the names that a plan has for them."""
_KINDS: dict[str, type[PackedWeight]] = {}
"""By the names that plans have for them."""
_MARKS = frozenset(("bits", "values", "codes"))
"""The keys of a state dict that tell kinds apart where there is no plan to read."""


class PackedWeight(TensorDataclass):
    """A weight as :func:`strop.pack_weight` makes it for :func:`strop.packed_linear`.

    Frozen, checked when it is made or loaded, and a pytree of its tensors. What it holds is what its state
    dict has; the layouts that kernels want are made of that, and are not saved. They are made anew, at the
    next use, where torch wrote to these tensors in place. (What torch does not count is not seen: writes
    through ``.data``, through numpy, and by another process.)

    The state dict has ``shape`` and ``plan``, and

    - of a weight with neither mask nor format ``values``, [N, K];
    - of a weight with a mask ``bits``, uint8 of shape [N, ceil(K / 8)], a bit for each weight, low bits first,
      and ``values``, the weights whose bit is set, row by row;
    - of a weight in codes ``codes``, ``scale``, ``zero_point`` and ``tensor_scale`` as of
      :class:`strop.QuantizedTensor`, the last two where there are such; of one with a mask as well ``bits``, and
      the codes of what stayed.

    All of it is tensors, for ``weights_only=True`` and safetensors. A plan that was chosen on another
    processor or instruction set is chosen anew when it is loaded, unless it was forced.

    Attributes:
        shape: (N, K).
        format: the number format's name; None for values that are no codes.
        activations: empty, ``int8`` or ``uint8``: what each row of the input is quantized to.
        dtype: of the values; of a weight in codes, the dtype that it had.
        input_dtype: of the input that it is planned for; others work.
        device: where the tensors are.
        nnz: weights that take part.
        sparsity: the share of weights that were pruned.
        nbytes: of all that it holds, layouts included.

    Raises:
        ValueError: for shapes, counts or values that do not fit each other.
        TypeError: for dtypes that do not fit.

    Example:
        >>> import strop, torch
        >>> w = strop.pack_weight(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
        >>> w.shape, w.nnz, w.state_dict()["values"]
        ((2, 3), 2, tensor([2., 1.]))
        >>> w.to_dense()
        tensor([[0., 2., 0.],
                [1., 0., 0.]])
        >>> w = strop.pack_weight(torch.linspace(-1, 1, 64).view(2, 32), format="int4")
        >>> w.shape, w.format, sorted(w.state_dict())
        ((2, 32), 'int4', ['codes', 'plan', 'scale', 'shape'])

    """

    called = "PackedWeight"
    kind: ClassVar[str]
    """Its name in a plan."""
    canonical: ClassVar[tuple[str, ...]]
    """The tensors that the layouts are made of, the first of which tells weights apart."""
    shape: tuple[int, int]
    format: str | None
    activations: str
    plan_source: str
    if TYPE_CHECKING:  # fields of some kinds, computed of others

        @property
        def dtype(self) -> torch.dtype:
            """Of the values; of a weight in codes, the dtype that it had."""

        @property
        def input_dtype(self) -> torch.dtype:
            """Of the input that it is planned for."""

    _made_of = cast("tuple[int, ...] | None", None)
    # versions and places of what the layouts are of; None: as they are
    _moved = cast("tuple[Any, Any]", (None, None))  # by which function to which weight, last
    _content = b""  # the same by value, once it was written to

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle()

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return cast(Tensor, getattr(self, self.canonical[0])).device

    @property
    def sparsity(self) -> float:
        """The share of weights that were pruned."""
        return 1 - self.nnz / max(self.shape[0] * self.shape[1], 1)

    @property
    def requires_grad(self) -> bool:
        """False: the weight is frozen, which modules of torch ask of their parameters."""
        return False

    @property
    def nnz(self) -> int:
        """Weights that take part."""
        raise NotImplementedError

    def plan(self) -> str:
        """What runs for which rows of input, and why, as text to print."""
        raise NotImplementedError

    def method_names(self) -> list[str]:
        """What multiplies, for each class of rows."""
        raise NotImplementedError

    def to_dense(self) -> Tensor:
        """The weight [N, K] that this stands for, with its zeros, of ``dtype``."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What the tensors mean, and the plan, as a state dict has them."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        """What the layouts are made of, with ``shape`` and ``plan``; every entry a tensor."""
        tensors = self.held()
        return {
            **{name: tensor for name, tensor in tensors.items() if tensor is not None},
            "shape": torch.tensor(self.shape, device="cpu"),
            "plan": _plan_of(self),
        }

    def held(self) -> dict[str, Tensor | None]:
        """The tensors that the layouts are made of, by name."""
        return {name: getattr(self, name) for name in self.canonical}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], **facts: Any) -> PackedWeight:
        """A validated weight from :meth:`state_dict`.

        Raises:
            ValueError: for keys that are unknown or missing, and tensors that do not fit.

        """
        check_state(_NAME, state)
        kind = kind_of(state)
        needed = needed_keys(kind) if kind else ["values", "shape", "plan"]
        known = {*(kind.canonical if kind else ()), "shape", "plan"}
        if kind is None or set(needed) - set(state) or set(state) - known or facts:
            found = sorted(set(state) | set(facts))
            raise ValueError(f"{_NAME}: state dict has keys {found}; {sorted(needed)} are needed")
        shape = integers_in("shape", state["shape"], 2)
        if min(shape) < 0:
            raise ValueError(f"{_NAME}: shape {shape} is unknown")
        tensors = {name: state.get(name) for name in kind.canonical}
        return kind.of_facts(tensors, cast("tuple[int, int]", shape), facts_in(state["plan"]))

    @classmethod
    def of_facts(
        cls,
        tensors: Mapping[str, Tensor | None],
        shape: tuple[int, int],
        facts: Mapping[str, Any],
    ) -> Self:
        """Made and checked, of what a state dict has."""
        raise NotImplementedError

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of tensors that have shapes alone."""
        raise NotImplementedError

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other tensors, and its input another dtype."""
        raise NotImplementedError

    def beside(self, changed: Mapping[str, Any]) -> Self:
        """The same weight but for some fields, such as tensors that hold the same; nothing is checked."""
        fields = {name: getattr(self, name) for name in self.tensor_fields + self.metadata_fields}
        return self._trusted(**{**fields, **changed})

    @classmethod
    def _trusted(cls, **fields: Any) -> Self:
        made = super()._trusted(**fields)
        made._settle()
        return made

    def _again(self) -> Self:
        """Made anew of the tensors as they are."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Takes the layouts for those of the tensors as they are."""
        if is_compiling():
            return
        held = self.held()
        if any(isinstance(t, FakeTensor) or t.is_meta for t in held.values() if t is not None):
            return
        for name, tensor in held.items():
            if tensor is not None and tensor.is_inference():  # which has no version
                with torch.inference_mode(False):
                    object.__setattr__(self, name, tensor.clone())
        with suppress(RuntimeError):  # of a transform's tensors, without memory
            object.__setattr__(self, "_made_of", self._now())

    def _now(self) -> tuple[int, ...]:
        held = [tensor for tensor in self.held().values() if tensor is not None]
        return (*(t._version for t in held), *(t.data_ptr() for t in held))

    def _digest(self) -> bytes:
        return _content_of(*self.held().values())

    def follow(self) -> None:
        """Makes the layouts anew if the tensors were written to since they were made.

        Raises:
            ValueError: where they do not fit each other any more.

        """
        if is_compiling():
            return None
        if self._made_of is None:  # a pytree's, or without data
            return self._settle()
        if self._made_of == self._now():
            return None
        content = self._digest()
        if content != self._content or not content:
            again = self._again()
            for name in self.tensor_fields:
                if name not in self.canonical:
                    object.__setattr__(self, name, getattr(again, name))
            object.__setattr__(self, "_content", content)
        return self._settle()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        self.follow()
        tensors = {name: copy.deepcopy(getattr(self, name), memo) for name in self.tensor_fields}
        return self._trusted(
            **tensors, **{name: getattr(self, name) for name in self.metadata_fields}
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # No tensor that only this call would hold: a process that is spawned reads them after it.
        self.follow()
        return _unpickled, (type(self), self.held(), self.shape, json.dumps(self.facts()))


def _unpickled(
    kind: type[PackedWeight],
    tensors: Mapping[str, Tensor | None],
    shape: tuple[int, int],
    facts: str,
) -> PackedWeight:
    return kind.of_facts(tensors, shape, json.loads(facts))


torch.serialization.add_safe_globals([_unpickled])


def kind_of(state: Mapping[str, object]) -> type[PackedWeight] | None:
    """The class of a state dict, by its plan, or else by its keys; None if there is none."""
    with suppress(ValueError):
        if (named := _KINDS.get(str(facts_in(state.get("plan")).get("kind")))) is not None:
            return named
    marks = _MARKS & set(state)
    fitting = (
        kind
        for kind in _KINDS.values()
        if _MARKS & set(needed_keys(kind)) <= marks <= set(kind.canonical)
    )
    return next(fitting, None)


def needed_keys(kind: type[PackedWeight]) -> list[str]:
    """The keys that a state dict of a kind cannot lack."""
    return [*(name for name in kind.canonical if name not in kind._optional), "shape", "plan"]


def plan_facts(weight: PackedWeight) -> dict[str, Any]:
    """What a state dict's plan says of a weight."""
    return {"kind": weight.kind, **weight.facts()}


def _plan_of(weight: PackedWeight) -> Tensor:
    return torch.tensor(_plan_bytes(plan_facts(weight)), dtype=torch.uint8, device="cpu")


def _plan_bytes(facts: Mapping[str, Any]) -> list[int]:
    text = json.dumps(facts).encode()
    return list(text.ljust(-(-len(text) // _TEXT) * _TEXT))


# (compiled code calls it when it is traced, as torch.compiler.assume_constant_result has it, which
# would import the compiler)
_plan_bytes._dynamo_marked_constant = True  # type: ignore[attr-defined]


def facts_in(plan: object) -> dict[str, Any]:
    """What a state dict's plan says.

    Raises:
        ValueError: if it is none.

    """
    if isinstance(plan, Tensor) and not isinstance(plan, FakeTensor) and not plan.is_meta:
        with suppress(ValueError, RuntimeError):
            facts = json.loads(bytes(plan.tolist()) if plan.dtype == torch.uint8 else "")
            if isinstance(facts, dict):
                return facts
    raise ValueError(f"{_NAME}: the plan is not as state_dict gives it")


def integers_in(name: str, tensor: object, count: int) -> tuple[int, ...]:
    """So many of a state dict."""
    right = isinstance(tensor, Tensor) and tensor.dtype == torch.int64 and tensor.shape == (count,)
    if not right or isinstance(tensor, FakeTensor) or cast(Tensor, tensor).is_meta:
        raise ValueError(f"{_NAME}: {name} is not {count} integers in an int64 tensor")
    return tuple(cast(Tensor, tensor).tolist())


def _content_of(*tensors: Tensor | None) -> bytes:
    """A digest of what tensors hold, which their writers may have left as it was; nothing on a GPU.

    (DistributedDataParallel writes to every buffer before each forward.) It takes a quarter of the time
    that layouts take.
    """
    held = [tensor for tensor in tensors if tensor is not None]
    if any(t.device.type != "cpu" for t in held):
        return b""
    digest = hashlib.blake2b(digest_size=32)
    for tensor in held:
        as_bytes = tensor.detach().contiguous().flatten().view(torch.uint8)
        digest.update(cast(Any, as_bytes.numpy()))
    return digest.digest()
