"""What is asked for each layer of a model: by one set of options, or by a recipe of several."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from strop._core.arguments import boolean, instance, number
from strop._core.errors import in_the_name_of
from strop._core.library import FLOATING
from strop._linear.pack_codes import Format
from strop._linear.pack_weight import check_plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_OP = "strop.pack_model"
_BESIDE = {"activations": None, "block_size": None, "symmetric": True, "dtype": None}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}
Recipe = Mapping[str, Mapping[str, Any] | None] | str | os.PathLike[str]


@dataclass(frozen=True)
class Options:
    """How the layers are packed that it is for."""

    format: Format | None = None
    block_size: Sequence[int] | None = None
    symmetric: bool = True
    activations: str | None = None
    dtype: torch.dtype | None = None
    min_sqnr: float | None = None
    plan: str | None = None
    only_if_faster: bool = True
    skip: bool = field(default=False, kw_only=True)
    """Whether they are left alone."""
    float_input: bool = field(default=False, kw_only=True)
    """Whether a recipe says that activations are None, for layers that have some of their own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "symmetric", boolean(_OP, "symmetric", self.symmetric))
        object.__setattr__(self, "skip", boolean(_OP, "skip", self.skip))
        faster = boolean(_OP, "only_if_faster", self.only_if_faster)
        object.__setattr__(self, "only_if_faster", faster)
        if self.plan is not None:
            check_plan(_OP, self.plan)
        object.__setattr__(self, "min_sqnr", number(_OP, "min_sqnr", self.min_sqnr))
        if self.min_sqnr is not None and math.isnan(self.min_sqnr):
            raise ValueError(f"{_OP}: min_sqnr is NaN")
        for name in ("block_size", "activations"):
            if getattr(self, name) is not None and self.format is None:
                raise ValueError(f"{_OP}: {name} is given, but format is None")

    def numbers(self) -> dict[str, Any]:
        """Those that :func:`strop.pack_weight` takes."""
        names = ("format", "block_size", "symmetric", "activations", "dtype")
        return {name: getattr(self, name) for name in names}


class Choice:
    """The options of each layer, by its names."""

    def __init__(self, options: Options, recipe: Recipe | None) -> None:
        self._default = options
        self._by_pattern = [
            (pattern, _asked(pattern, asked, options)) for pattern, asked in _entries(recipe)
        ]
        self._used: set[str] = set()

    def of(self, names: Iterable[str]) -> Options:
        """Those of the first pattern that fits a name; without one, the options of all."""
        names = tuple(names)
        for pattern, options in self._by_pattern:
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                self._used.add(pattern)
                return options
        return self._default

    def check_used(self) -> None:
        """Raises ValueError where a pattern fits no layer."""
        for pattern, _ in self._by_pattern:
            if pattern not in self._used:
                raise ValueError(
                    f"{_OP}: recipe has '{pattern}', but no layer whose first pattern that is"
                )


def _entries(recipe: Recipe | None) -> list[tuple[str, Any]]:
    if recipe is None:
        return []
    if isinstance(recipe, str | os.PathLike):
        try:
            with open(recipe, "rb") as file:
                recipe = tomllib.load(file)
        except OSError as error:
            raise ValueError(f"{_OP}: recipe: {error}") from None
        except ValueError as error:
            raise ValueError(f"{_OP}: recipe is no TOML: {error}") from None
    if not isinstance(recipe, Mapping):
        kind = type(recipe).__name__
        raise TypeError(f"{_OP}: recipe is a {kind}; a dict, or the path of a TOML file, is needed")
    for pattern in recipe:
        instance(_OP, "a key of recipe", pattern, str, "a string")
    return list(recipe.items())


def _asked(pattern: str, asked: object, options: Options) -> Options:
    """The options of an entry: what it says, and else what is asked for all layers."""
    if asked is None:
        return dataclasses.replace(options, skip=True)
    if not isinstance(asked, Mapping):
        kind = type(asked).__name__
        raise TypeError(f"{_OP}: recipe has a {kind} for '{pattern}'; options by name are needed")
    known = {entry.name for entry in dataclasses.fields(Options)} - {"float_input"}
    if unknown := sorted(set(map(str, asked)) - known):
        raise ValueError(
            f"{_OP}: recipe has {', '.join(unknown)} for '{pattern}'; {', '.join(sorted(known))} "
            "are known"
        )
    given = dict(asked)
    float_input = given.get("activations", "") is None
    if isinstance(name := given.get("dtype"), str):
        if name not in _DTYPES:
            raise ValueError(f"{_OP}: recipe has dtype '{name}' for '{pattern}', which is unknown")
        given["dtype"] = _DTYPES[name]
    if "format" in given:  # what another format was given with it does not hold
        given = {**_BESIDE, **given}
    with in_the_name_of(f"{_OP}: recipe, '{pattern}'"):
        return dataclasses.replace(options, **given, float_input=float_input)
