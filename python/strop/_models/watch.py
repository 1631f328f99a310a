"""Watches a model run: who reads the weights of its layers, and where their results go."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from strop._core.tensors import METADATA
from strop._models.fusion import Fusion
from strop._models.layers import Layer
from strop._models.linear_kinds import stored
from strop.nn import PackedLinear
from strop.nn._dense_layers import masked

# What takes no numbers of a tensor; a packed layer's weight tells its metadata as well.
_FACTS = METADATA | {
    *(
        getattr(Tensor, name)
        for name in ("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor")
    ),
    *(
        getattr(torch, name)
        for name in (
            *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
            *("is_floating_point", "is_complex", "numel", "result_type"),
        )
    ),
}
_FACTS_OF_THE_SECOND = {Tensor.to, Tensor.type_as, Tensor.view_as, Tensor.expand_as}


class Watch(TorchFunctionMode):
    """For one run of a model, on the thread that runs it; see :meth:`watching`."""

    def __init__(self, layers: Sequence[Layer], fusions: Mapping[int, Fusion]) -> None:
        super().__init__()
        self.read: dict[int, str] = {}
        """Why a layer's weight has to stay, by the layer's id."""
        self._layers = {id(layer.linear): layer for layer in layers}
        self._fusions = fusions
        self._unfused: set[int] = set()
        self._calls: Counter[int] = Counter()
        self._own_reads: Counter[int] = Counter()
        self._running: list[int] = []
        self._weights: dict[int, tuple[Tensor, dict[int, str]]] = {}
        self._pending: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._taken: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        for layer in layers:
            self._know(layer.linear)

    @contextlib.contextmanager
    def watching(self, note: Callable[[nn.Module, Any], None]) -> Iterator[None]:
        """Within it the model is to be run; note is called with each layer and what it is given."""
        with contextlib.ExitStack() as undo:
            for layer in self._layers.values():
                undo.callback(replaced(layer.linear, "forward", self._layer(layer.linear, note)))
                if any(masked(layer.linear, name) for name in ("weight", "bias")):
                    hook = layer.linear.register_forward_pre_hook(self._enter, prepend=True)
                    undo.callback(hook.remove)
            for key, fusion in self._fusions.items():
                found, place = fusion.place.holds, fusion.place
                if isinstance(found, nn.Module):
                    undo.callback(replaced(found, "forward", self._activation(key, found.forward)))
                else:
                    undo.callback(replaced(place.parent, place.name, self._activation(key, found)))
            undo.enter_context(self)
            yield

    def fused(self) -> dict[int, Fusion]:
        """The activations that took every result of their layers, which nothing else saw.

        Called while the model's output is still held: what is in it, somebody else has.
        """
        kept = [*self._pending.values(), *self._taken.values()]
        if any(ref() is not None for ref, _ in kept):
            gc.collect()
        seen = {key for ref, key in self._taken.values() if ref() is not None}
        seen |= {key for _, key in self._pending.values()} | self._unfused
        return {
            key: fusion
            for key, fusion in self._fusions.items()
            if self._own_reads[key] >= self._calls[key] > 0 and key not in seen
        }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not _in(_FACTS, func):
            given = args[:1] if _in(_FACTS_OF_THE_SECOND, func) else args
            own: set[int] = set()
            for tensor in _tensors((given, kwargs)):
                self._seen(tensor, own)
            self._own_reads.update(own)
        return func(*args, **kwargs)

    def _seen(self, tensor: Tensor, own: set[int]) -> None:
        """A function takes a tensor; own are the layers that take theirs."""
        weight, owners = self._weights.get(id(tensor), (None, {}))
        if weight is tensor:
            running = self._running[-1] if self._running else None
            if running in owners:
                own.add(running)
            else:
                for key, name in owners.items():
                    self.read.setdefault(
                        key, f"example_inputs show that the model reads its {name}"
                    )
        for results in (self._pending, self._taken):
            ref, key = results.get(id(tensor), (None, 0))
            if ref is not None and ref() is tensor:
                self._unfused.add(key)

    def _know(self, linear: nn.Module) -> None:
        """Remembers the tensors that are a layer's own at present; a packed one has none to lose."""
        if isinstance(linear, PackedLinear):
            return
        for name in ("weight", "bias"):
            now = vars(linear).get(name)  # what torch.nn.utils.prune made of both
            for tensor in (stored(linear, name), now):
                if isinstance(tensor, Tensor):
                    _, owners = self._weights.setdefault(id(tensor), (tensor, {}))
                    owners[id(linear)] = name

    def _enter(self, linear: nn.Module, _: object) -> None:
        """The masks of torch.nn.utils.prune are applied from here on, before the forward."""
        self._running.append(id(linear))

    def _layer(
        self, linear: nn.Module, note: Callable[[nn.Module, Any], None]
    ) -> Callable[..., Any]:
        forward, key = linear.forward, id(linear)
        weight = linear._parameters.get("weight")

        def run(*args: Any, **kwargs: Any) -> Any:
            entered = self._running[-1:] == [key]
            if not entered:
                self._running.append(key)
            # (compressed-tensors reads a weight at each look, which is the layer's own from here on)
            if linear._parameters.get("weight") is not weight:
                self.read[key] = "the model runs it with another weight"
            self._know(linear)
            self._calls[key] += 1
            try:
                result = forward(*args, **kwargs)
            finally:
                self._running.pop()
            note(linear, args[0] if args else next(iter(kwargs.values()), None))
            if isinstance(result, Tensor) and key in self._fusions:
                self._pending[id(result)] = (weakref.ref(result), key)
            return result

        return run

    def _activation(self, key: int, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            x = next(iter((*args, *kwargs.values())), None)
            ref, owner = self._pending.get(id(x), (None, 0))
            if owner != key or ref is None or ref() is not x or len(args) + len(kwargs) != 1:
                self._unfused.add(key)
                return call(*args, **kwargs)
            del self._pending[id(x)]
            result = call(*args, **kwargs)
            if result is not x:  # (in place, what has it has the activation's result)
                self._taken[id(x)] = (ref, key)
            return result

        return run


def replaced(owner: nn.Module, name: str, by: Any) -> Callable[[], None]:
    """Puts something into an instance's dictionary; what is returned takes it out again."""
    held = vars(owner)
    before = {name: held[name]} if name in held else {}
    held[name] = by

    def back() -> None:
        held.pop(name, None)
        held.update(before)

    return back


def _in(functions: Set[Any], func: object) -> bool:
    try:
        return func in functions
    except TypeError:  # not hashable
        return False


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for one in given:
            yield from _tensors(one)
    elif isinstance(given, Mapping):
        yield from _tensors(tuple(given.values()))
