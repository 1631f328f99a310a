"""Takes a model that :func:`strop.pack_model` changed back to dense layers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar, cast

from torch import nn

from strop._models.convert import put
from strop._models.fusion import past_fusions
from strop._models.layers import Layer, packed_layers, weight_key
from strop._models.linear_kinds import restored
from strop.nn import PackedLinear
from strop.nn._dense_layers import ACTIVATIONS

_OP = "strop.densify"
_Model = TypeVar("_Model", bound=nn.Module)


def densify(model: _Model) -> _Model:
    """Puts a dense layer where :func:`strop.pack_model` put a packed one.

    The model is what it was before it was converted, but for what packing changed of the weights: layers are of
    the class that they were (``nn.Linear``, a subclass of it, GPT-2's ``Conv1D``), with what was set on
    them; an activation that had become a part of a layer is a module of its own again; layers that shared a
    weight share one parameter; torch's encoder layers have their fast paths. So the state dict has the
    keys of the original's, and weights can be trained, or saved for others to read. Biases are the
    parameters that they were.

    Where the activation of a :class:`strop.nn.PackedLinear` came from is not known for a layer that was
    made by hand: it becomes an ``nn.Sequential`` of ``nn.Linear`` and the activation, as by its
    ``to_dense()``.

    Args:
        model: changed in place. Its weights are of the dtype of the layers' input.

    Returns:
        The model.

    Raises:
        ValueError: for a model that is a ``PackedLinear`` itself, which cannot be replaced in place.
        TypeError: for arguments of another type.

    Example:
        >>> import strop, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
        >>> x = torch.randn(3, 64)
        >>> _ = strop.pack_model(model, x, sparsity=0.9, only_if_faster=False)
        >>> strop.densify(model)
        Sequential(
          (0): Linear(in_features=64, out_features=128, bias=True)
          (1): ReLU()
          (2): Linear(in_features=128, out_features=10, bias=True)
        )
        >>> float((model[0].weight == 0).float().mean()) > 0.5
        True

    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{_OP}: model is a {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(model, PackedLinear):
        raise ValueError(
            f"{_OP}: model is a strop.nn.PackedLinear, which cannot be replaced in place; use its to_dense()"
        )
    layers = packed_layers(model)
    fused = past_fusions(model)
    weights: dict[Hashable, nn.Parameter] = {}
    made: list[tuple[Layer, nn.Module]] = []
    undone = []
    for layer in layers:
        packed = cast(PackedLinear, layer.linear)
        dense = restored(packed, weights.get(weight_key(packed)))
        weights[weight_key(packed)] = cast(nn.Parameter, dense.weight)
        fusion = fused.get(id(packed))
        if fusion is not None and fusion.activation == packed.activation:
            undone.append(fusion)
        elif packed.activation is not None:
            activation = ACTIVATIONS[packed.activation]()
            dense = nn.Sequential(dense, activation).train(packed.training)
        made.append((layer, dense))
    for fusion in undone:
        fusion.undo()
    put(model, made)
    return model
