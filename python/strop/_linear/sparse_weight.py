"""Pruned weights: the bits of what is kept, its values, and what the kernels make of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.compiler import is_compiling
from typing_extensions import Self

from strop import _C
from strop._core.errors import translated
from strop._core.library import FLOATING
from strop._core.tensor_dataclass import TensorDataclass, check_state, tensor_dataclass
from strop._linear import ops, plans
from strop._linear.layouts import (
    array_of,
    check_dtypes,
    check_layout,
    check_methods,
    content_of,
    fits,
    integers_in,
    on_cpu,
    on_gpu,
    planned,
)

_NAME = "strop.SparseWeight"
PLANS = ("table", "measure", "sparse", "dense")


@tensor_dataclass
class SparseWeight(TensorDataclass):
    """A pruned weight, as :func:`strop.pack_sparse` makes it for :func:`strop.sparse_linear`.

    Frozen, checked when it is made or loaded, and a pytree of its tensors. Its state dict is ``bits``
    and ``values`` with the ``shape`` and the ``plan``, every one a tensor: the layouts that kernels
    want are made anew from these, and so are pickles and their kind. They are also made anew, at the next
    use, where torch wrote to ``bits`` or ``values`` in place. (What torch does not count is not seen:
    writes through ``.data``, through numpy, and by another process.)

    Attributes:
        bits: uint8 of shape [N, ceil(K / 8)]: a bit for each weight, low bits first.
        values: the weights whose bit is set, row by row.
        mask: the layout for one row of input where many weights are kept; None if not prepared.
        quads: strips of four rows of the weight, for few rows of input or few nonzeros; likewise.
        pairs: strips of two, for more of both; likewise.
        dense: the weight itself, where the plan has dense in it.
        back_quads: the layouts of the transposed weight, for the input's gradient.
        back_pairs: likewise.
        starts: int64 of shape [N + 1], on a GPU, which has no layouts: where each row's values begin.
        shape: (N, K).
        methods: for each class of rows the number of its method.
        plan_source: how these were chosen: ``table``, ``measure``, ``sparse`` or ``dense``.
        input_dtype: of the input that the plan is for, and of ``dense``; others work.

    Raises:
        ValueError: for shapes, counts, bits or layouts that do not fit each other.
        TypeError: for dtypes that do not fit.

    Example:
        >>> import strop, torch
        >>> w = strop.pack_sparse(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
        >>> w.shape, w.nnz, w.values
        ((2, 3), 2, tensor([2., 1.]))
        >>> w.to_dense()
        tensor([[0., 2., 0.],
                [1., 0., 0.]])

    """

    bits: Tensor
    values: Tensor
    mask: Tensor | None
    quads: Tensor | None
    pairs: Tensor | None
    dense: Tensor | None
    back_quads: Tensor | None
    back_pairs: Tensor | None
    starts: Tensor | None
    shape: tuple[int, int]
    methods: tuple[int, ...]
    plan_source: str
    input_dtype: torch.dtype
    _made_of = None  # versions and places of what the layouts are of; None: as bits and values are
    _content = b""  # the same by value, once it was written to
    versions = None
    """The same as a tensor, for compiled code, which cannot ask; None on a GPU, where it would wait."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle()

    @property
    def nnz(self) -> int:
        """Weights that are kept."""
        return self.values.shape[0]

    @property
    def sparsity(self) -> float:
        """The share of weights that were pruned."""
        return 1 - self.nnz / max(self.shape[0] * self.shape[1], 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.bits.device

    @property
    def requires_grad(self) -> bool:
        """False: the weight is frozen, which modules of torch ask of their parameters."""
        return False

    def plan(self) -> str:
        """What runs for which rows of input, and why, as text to print."""
        lines = plans.describe(self.methods, self._costs(), self.plan_source)
        dtypes = " beside ".join(
            str(t).removeprefix("torch.") for t in (self.dtype, self.input_dtype)
        )
        table = "bytes moved" if self.bits.is_cuda else f"table of {plans.table_key()}"
        head = f"[{self.shape[0]}, {self.shape[1]}], {self.sparsity:.1%} pruned, {dtypes} input, {table}"
        return "\n".join(
            [head, *(f"{rows:>11} rows: {method:6} ({w})" for rows, method, w in lines)]
        )

    def _costs(self) -> plans.Costs:
        return plans.Costs(self.shape, self.nnz, self.dtype, self.input_dtype, self.bits.is_cuda)

    def _settle(self) -> None:
        """Takes the layouts for those of bits and values as they are."""
        if is_compiling() or isinstance(self.bits, FakeTensor) or self.bits.is_meta:
            return
        for name in ("bits", "values"):  # what inference mode made has no version
            if (tensor := getattr(self, name)).is_inference():
                with torch.inference_mode(False):
                    object.__setattr__(self, name, tensor.clone())
        with suppress(RuntimeError):  # of a transform's tensors, without memory
            object.__setattr__(self, "_made_of", self._now())
        if self.device.type == "cpu":
            versions = torch.tensor((self.bits._version, self.values._version))
            object.__setattr__(self, "versions", versions)

    def _now(self) -> tuple[int, ...]:
        bits, values = self.bits, self.values
        return bits._version, values._version, bits.data_ptr(), values.data_ptr()

    def follow(self) -> None:
        """Makes the layouts anew if bits or values were written to since they were made.

        Raises:
            ValueError: where they do not fit each other any more.

        """
        if is_compiling():
            return None
        if self._made_of is None:  # a pytree's, or without data
            return self._settle()
        if self._made_of == self._now():
            return None
        content = content_of(self.bits, self.values)
        if content != self._content or not content:
            again = self.prepared(
                self.bits,
                self.values,
                self.shape,
                methods=self.methods,
                plan_source=self.plan_source,
                backward=self.back_quads is not None,
                input_dtype=self.input_dtype,
            )
            for name in TENSORS[2:]:
                object.__setattr__(self, name, getattr(again, name))
            object.__setattr__(self, "_content", content)
        return self._settle()

    def to_dense(self) -> Tensor:
        """The weight with its zeros."""
        self.follow()
        if self.starts is not None:
            return ops.unpack_by_starts(self.bits, self.values, self.starts, self.shape[1])  # type: ignore[no-any-return]
        return ops.unpack_masked(self.bits, self.values, self.shape[1])  # type: ignore[no-any-return]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device or of another dtype, planned for that kind of device and input of that dtype.

        A plan that was measured is one by the table then. Arguments as of ``torch.Tensor.to``.
        """
        self.follow()
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        there = self.device if device is None else torch.device(device)
        other_kind = {there.type, self.device.type} == {"cpu", "cuda"}
        cast = dtype is not None and (dtype, dtype) != (self.dtype, self.input_dtype)
        if cast or other_kind:
            made = self._remade(dtype if cast else None, there if other_kind else self.device)
            return made.to(device, non_blocking=non_blocking)
        return super().to(device=device, non_blocking=non_blocking)

    def state_dict(self) -> dict[str, Tensor]:
        """``bits``, ``values``, ``shape`` and ``plan``."""
        return {
            "bits": self.bits,
            "values": self.values,
            "shape": torch.tensor(self.shape),
            "plan": torch.tensor(self.numbered()),
        }

    def numbered(self) -> tuple[int, ...]:
        """The plan as a state dict has it: the methods, then three facts."""
        backward = self.back_quads is not None
        facts = (int(backward), PLANS.index(self.plan_source), FLOATING.index(self.input_dtype))
        return (*self.methods, *facts)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], **facts: Any) -> Self:
        """A validated weight from :meth:`state_dict`.

        Raises:
            ValueError: for keys that are unknown or missing, and tensors that do not fit.

        """
        check_state(_NAME, state)
        wanted = {"bits", "values", "shape", "plan"}
        if set(state) != wanted or facts:
            found = sorted(set(state) | set(facts))
            raise ValueError(f"{_NAME}: state dict has keys {found}; {sorted(wanted)} are needed")
        shape = integers_in("shape", state["shape"], 2)
        plan = integers_in("plan", state["plan"], len(plans.CLASSES) + 3)
        return cls._numbered_anew(state["bits"], state["values"], shape, plan)

    @classmethod
    def _numbered_anew(
        cls, bits: Tensor, values: Tensor, shape: tuple[int, ...], plan: tuple[int, ...]
    ) -> Self:
        *methods, backward, plan_source, dtype = plan
        known = 0 <= plan_source < len(PLANS) and backward in (0, 1) and 0 <= dtype < len(FLOATING)
        if min(shape) < 0 or not known:
            raise ValueError(f"{_NAME}: shape {shape} or plan {list(plan)} is unknown")
        rows, columns = shape
        return cls.prepared(
            bits,
            values,
            (rows, columns),
            methods=tuple(methods),
            plan_source=PLANS[plan_source],
            backward=bool(backward),
            input_dtype=FLOATING[dtype],
        )

    @classmethod
    def prepared(
        cls,
        bits: Tensor,
        values: Tensor,
        shape: tuple[int, int],
        *,
        methods: tuple[int, ...],
        plan_source: str,
        backward: bool,
        input_dtype: torch.dtype | None = None,
    ) -> Self:
        """With the layouts that a plan needs, and those of the transposed weight.

        A plan of another kind of device is made anew.
        """
        check_methods(methods)
        input_dtype = values.dtype if input_dtype is None else input_dtype
        if not fits(methods, bits.device):
            costs = plans.Costs(shape, values.shape[0], values.dtype, input_dtype, bits.is_cuda)
            methods, plan_source = planned(costs, plan_source)
        check_dtypes(values.dtype, input_dtype, methods)
        columns = shape[1]
        if tuple(bits.shape) != (shape[0], (columns + 7) // 8):
            raise ValueError(
                f"{_NAME}: bits has shape {tuple(bits.shape)}; {shape} needs "
                f"{(shape[0], (columns + 7) // 8)}"
            )
        names = {plans.METHOD_OF[number] for number in methods}
        layouts = on_gpu if bits.is_cuda else on_cpu
        try:
            made = layouts(bits, values, shape, names | {"back"} if backward else names)
        except Exception as error:
            raise translated(_NAME, error, {"bits": bits, "values": values}) from None
        if (dense := made.get("dense")) is not None:
            made["dense"] = dense.to(input_dtype)
        return cls._trusted(
            bits=bits,
            values=values,
            **{name: made.get(name) for name in TENSORS[2:]},
            shape=shape,
            methods=methods,
            plan_source=plan_source,
            input_dtype=input_dtype,
        )

    @classmethod
    def _trusted(cls, **fields: Any) -> Self:
        """Of fields that were made to fit: what validate would find out again takes a while."""
        weight = object.__new__(cls)
        for name, value in fields.items():
            object.__setattr__(weight, name, value)
        weight._settle()
        return weight

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        if len(self.shape) != 2:
            raise ValueError(f"{_NAME}: shape is {self.shape}; (N, K) is needed")
        rows, columns = self.shape
        check_methods(self.methods)
        if self.plan_source not in PLANS:
            raise ValueError(
                f"{_NAME}: plan_source is {self.plan_source!r}; {', '.join(PLANS)} are known"
            )
        if not fits(self.methods, self.device):
            raise ValueError(
                f"{_NAME}: the plan is of another kind of device than {self.device}; .to() makes it anew"
            )
        for method in {plans.METHOD_OF[number] for number in self.methods}:
            if getattr(self, "starts" if method in plans.BY_STARTS else method) is None:
                raise ValueError(f"{_NAME}: the plan has {method}, which is not prepared")
        if self.device.type != "cpu":
            return  # checked before it went there
        bits, values = array_of("bits", self.bits), array_of("values", self.values, FLOATING)
        _C.check_masked_matrix(bits, values, columns)
        if self.bits.shape[0] != rows:
            raise ValueError(f"{_NAME}: bits has {self.bits.shape[0]} rows; shape is {self.shape}")
        check_dtypes(self.dtype, self.input_dtype, self.methods)
        if self.dense is not None and self.dense.dtype != self.input_dtype:
            raise TypeError(f"{_NAME}: dense is {self.dense.dtype}, not {self.input_dtype}")
        if self.dense is not None and tuple(self.dense.shape) != self.shape:
            raise ValueError(
                f"{_NAME}: dense has shape {tuple(self.dense.shape)}, not {self.shape}"
            )
        turned = (columns, rows)
        for name in ("mask", "quads", "pairs", "back_quads", "back_pairs"):
            if (layout := getattr(self, name)) is not None:
                check_layout(name, layout, turned if name.startswith("back_") else self.shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        self.follow()
        tensors = {name: copy.deepcopy(getattr(self, name), memo) for name in TENSORS}
        facts = {n: getattr(self, n) for n in self.__dataclass_fields__ if n not in tensors}
        return self._trusted(**tensors, **facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # No tensor that only this call would hold: a process that is spawned reads them after it.
        return _unpickled, (self.bits, self.values, self.shape, self.numbered())

    def _remade(self, dtype: torch.dtype | None, device: torch.device) -> Self:
        """There, of another dtype, for input of that dtype."""
        if dtype is not None and dtype not in FLOATING:
            raise TypeError(
                f"{_NAME}: dtype is {dtype}; float32, bfloat16, float16 or float64 is needed"
            )
        values, input_dtype = self.values.to(device, dtype), dtype or self.input_dtype
        gpu = device.type == "cuda"
        costs = plans.Costs(self.shape, self.nnz, values.dtype, input_dtype, gpu)
        methods, plan_source = planned(costs, self.plan_source)
        return type(self).prepared(
            self.bits.to(device),
            values,
            self.shape,
            methods=methods,
            plan_source=plan_source,
            backward=self.back_quads is not None and values.dtype != torch.float64,
            input_dtype=input_dtype,
        )


TENSORS = ops.WeightArguments._fields[:-1]
"""Its fields that are tensors, in the order of the op's arguments."""


def _unpickled(
    bits: Tensor, values: Tensor, shape: tuple[int, int], plan: tuple[int, ...]
) -> SparseWeight:
    return SparseWeight._numbered_anew(bits, values, shape, plan)


torch.serialization.add_safe_globals([_unpickled])
