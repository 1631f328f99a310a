"""Models that torch.compile has seen: run in eager for a while, and compiled anew afterwards."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

_WRAPPED = "_orig_mod"


def is_wrapper(module: object) -> bool:
    """Whether a module is what ``torch.compile`` makes of another."""
    if "torch._dynamo" not in sys.modules:  # which takes seconds to import
        return False
    return isinstance(module, torch._dynamo.OptimizedModule)


def unwrapped(module: Any) -> Any:
    """A module without what ``torch.compile`` put around it."""
    while is_wrapper(module):
        module = module._modules[_WRAPPED]
    return module


def plain_name(name: str) -> str:
    """A name without the parts that ``torch.compile`` puts there."""
    return ".".join(part for part in name.split(".") if part != _WRAPPED)


@contextlib.contextmanager
def in_eager() -> Iterator[None]:
    """Nothing compiled runs: hooks and modes see every module and function."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def compiled_alone(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called."""
    return vars(module).get("_compiled_call_impl") is not None


def compile_anew(model: nn.Module, wrappers: Iterable[nn.Module]) -> None:
    """Forgets what was compiled of a model that has changed.

    Wrappers are those whose module was replaced: they are bound to the old one. (Guards notice most
    changes; but they count as recompilations, of which there may be few.)
    """
    for wrapper in {id(one): one for one in wrappers}.values():
        state: Any = wrapper
        state.__setstate__(state.__getstate__())
    if any(is_wrapper(module) or compiled_alone(module) for module in model.modules()):
        torch.compiler.reset()
