"""Who has a parameter: the rule for weights that are at more than one place of a model."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from torch import Tensor, nn

from strop._core.tensors import identity, span


class Users:
    """The modules of a model that have each parameter, and the names that it goes by.

    A weight is one that may be pruned where plain linear layers have it and nothing else does. It counts
    once, under its first name, and may be called by any. Parameters of other objects that are the same
    memory are the same weight; where only a part of the memory is the same they are others' users.
    """

    def __init__(self, model: nn.Module) -> None:
        self._users: dict[Hashable, list[tuple[str, nn.Module]]] = {}
        self._names: dict[Hashable, list[str]] = {}
        self._tensors: dict[Hashable, Tensor] = {}
        keys: dict[int, Hashable] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            for part, tensor in _tensors(module):
                key = keys.setdefault(id(tensor), self.key(tensor))
                users = self._users.setdefault(key, [])
                if not any(user is module for _, user in users):
                    users.append((name, module))
                self._names.setdefault(key, []).append(f"{name}.{part}".lstrip("."))
                self._tensors.setdefault(key, tensor)
        self._overlaps = _overlapping(self._tensors)

    def key(self, parameter: Tensor) -> Hashable:
        """Equal for parameters that are the same weight."""
        return identity(parameter)

    def names(self, parameter: Tensor) -> list[str]:
        """All that a parameter goes by."""
        return self._names.get(self.key(parameter), [])

    def users_of(self, name: str) -> str:
        """Those of the parameter of a name, in words; nothing if no parameter has it."""
        keys = [key for key, names in self._names.items() if name in names]
        return ", ".join(_words(user) for key in keys for user in self._users[key])

    def others(self, parameter: Tensor, mine: set[int]) -> list[str]:
        """Who has a parameter, or a part of its memory, beside the modules of these ids."""
        key = self.key(parameter)
        whole = [user for user in self._users.get(key, []) if id(user[1]) not in mine]
        parts = [user for other in self._overlaps.get(key, ()) for user in self._users[other]]
        return list(dict.fromkeys(_words(user) for user in (*whole, *parts)))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for named in (module._parameters, module._buffers):
        for name, tensor in named.items():
            if tensor is not None:
                yield name, tensor


def _words(user: tuple[str, nn.Module]) -> str:
    name, module = user
    return f"'{name}' ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def _overlapping(tensors: dict[Hashable, Tensor]) -> dict[Hashable, set[Hashable]]:
    """Which tensors have memory in common, by their keys."""
    spans = [(span(tensor), key) for key, tensor in tensors.items()]
    known = [(where, str(tensors[key].device), key) for where, key in spans if where is not None]
    found: dict[Hashable, set[Hashable]] = {}
    reached: dict[str, list[tuple[int, Hashable]]] = {}  # what goes on beyond the present place
    for (start, end), device, key in sorted(known, key=lambda one: one[0]):
        still = [one for one in reached.get(device, []) if one[0] > start]
        for _, other in still:
            found.setdefault(key, set()).add(other)
            found.setdefault(other, set()).add(key)
        reached[device] = [*still, (end, key)]
    return found
