"""The matrices of a model that no linear layer has: dense, and worth a word about why."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from strop._core.tensors import identity, metadata
from strop._models.linear_kinds import is_linear

# Nobody would take these for matrices that are multiplied.
_NO_PRODUCTS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Other:
    """A parameter, all its names, and why it is not packed."""

    names: tuple[str, ...]
    parameter: Tensor
    reason: str


def others(model: nn.Module, known: Collection[str]) -> list[Other]:
    """Floating parameters of two dimensions and more, but for those of known names."""
    names: dict[Hashable, list[str]] = {}
    first: dict[Hashable, tuple[Tensor, nn.Module]] = {}
    for name, tensor, module in _parameters(model):
        key = identity(tensor)
        names.setdefault(key, []).append(name)
        first.setdefault(key, (tensor, module))
    return [
        Other(tuple(mine), first[key][0], _reason(*first[key]))
        for key, mine in names.items()
        if not any(name in known for name in mine)
    ]


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    for name, module in model.named_modules(remove_duplicate=False):
        if is_linear(module) or isinstance(module, (*_NO_PRODUCTS, ParametrizationList)):
            continue
        for part, tensor in module._parameters.items():
            if tensor is not None and _is_matrix(tensor):
                yield f"{name}.{part}".lstrip("."), tensor, module


def _is_matrix(tensor: Tensor) -> bool:
    shape, dtype, _ = metadata(tensor)
    return dtype.is_floating_point and sum(size > 1 for size in shape) >= 2


def _reason(tensor: Tensor, module: nn.Module) -> str:
    dimensions = len(metadata(tensor)[0])
    what = "a parameter" if dimensions == 2 else f"a parameter of {dimensions} dimensions"
    return f"{what} of {type(module).__name__}, which is no linear layer"
