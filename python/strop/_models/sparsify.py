"""Makes the linear layers of a pruned model skip what was pruned."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from strop._core.arguments import boolean, instance
from strop._core.report import Report
from strop._linear.sparse_weight import PLANS
from strop._models.convert import convert
from strop._models.fusion import Fusion, possible_fusions
from strop._models.layers import Filter, groups
from strop._models.linear_kinds import is_linear
from strop._models.masks import masks_of
from strop._models.others import others
from strop._models.outcome import Options, outcome
from strop._models.report.report import report_of
from strop._models.run import observed
from strop._prune.prune_mask import Pattern

_OP = "strop.sparsify"


def sparsify(
    model: nn.Module,
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any] | None = None,
    *,
    sparsity: float | None = None,
    masks: Mapping[str, Tensor] | None = None,
    pattern: Pattern = "unstructured",
    dtype: torch.dtype | None = None,
    filter: Filter | None = None,
    only_if_faster: bool = True,
    plan: str | None = None,
    fuse: bool = True,
) -> Report:
    """Replaces, in place, each linear layer whose weight is pruned by :class:`strop.nn.SparseLinear`.

    Linear layers are ``nn.Linear``, its subclasses that compute the same, and GPT-2's ``Conv1D``. What is
    pruned is what is zero, or masked by ``torch.nn.utils.prune``; or what ``masks`` says; or
    the smallest weights, where ``sparsity`` or a pattern is given: nothing is retrained, and accuracy
    is lost. Weights are frozen from then on; biases stay the parameters that they were, and what was set
    on a layer is carried over. :func:`strop.densify` is the way back.

    A layer that runs no faster stays dense, with its zeros (a mask of
    ``torch.nn.utils.prune`` becomes zeros for good). With ``example_inputs`` the model is run once, in
    eager and in eval mode, without gradients and with the state of torch's random numbers restored, to see
    the rows of input of each layer; both ways are timed on as many, and only what they need is prepared and
    kept in memory. Without, the table of costs tells, for any number of rows.

    Left alone, and listed with the reason, are: subclasses of ``nn.Linear`` with more of their own than
    how they are made; layers with hooks, with parametrizations, with more than a weight and a bias, or of
    which ``forward`` was replaced; ``nn.MultiheadAttention``'s out_proj; weights that strop cannot read,
    such as those that torchao quantized, DTensors, or what is on meta; and a weight that something else
    has too, such as an embedding (:func:`strop.prune_masks` has the same rule). With ``example_inputs``
    also what these do not call, and layers whose weight or bias the model reads by itself. Linear layers
    that share a weight share the sparse one, and a layer that is used at several places is replaced at
    each. Matrices that no linear layer has (experts, convolutions) are listed as well.

    Code of the model that reads the ``weight`` of a converted layer finds the dense one, computed.
    ``nn.TransformerEncoderLayer`` has a path in eval mode that does so: it
    is turned off there, and so are nested tensors in its ``nn.TransformerEncoder`` (padding is computed,
    and not zeros, then). What ``torch.compile`` made of the model is compiled anew at the next call.

    An activation becomes a part of the layer before it where ``example_inputs`` show that it took every
    result of that layer, and nothing else saw one; ``nn.Identity`` takes its place: ``nn.ReLU``,
    ``nn.GELU``, ``nn.SiLU`` next to a layer in an ``nn.Sequential``, and ``intermediate_act_fn`` of a module
    that has it and ``dense`` and no more, as transformers' BERT layers. (What a forward does by the classes
    of its modules is not seen: such a model needs ``fuse=False``.)

    Layers that are sparse already are ranked and pruned along with dense ones, by sparsity, a pattern or
    masks: what was pruned stays so, and a layer keeps its activation, its dtype and the way its plan was
    made unless others are named.

    Args:
        model: changed in place; it cannot be a linear layer itself.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        sparsity: the share of weights to prune, by one ranking of all layers that are not left alone.
        masks: by the names of parameters, any that one has, True keeps, as :func:`strop.prune_masks`
            returns them; a layer that is left alone gets the zeros as well, and one without a mask is
            taken as it is.
        pattern: ``unstructured``, or as of :func:`strop.prune_mask`; ``n:m`` needs no sparsity.
        dtype: of the values that stay; None is each weight's.
        filter: called with a layer's name and the layer, for those to convert; None is all.
        only_if_faster: False converts every layer, to the sparse way.
        plan: how ways are chosen, as of :func:`strop.pack_sparse`; None is ``sparse`` if not
            only_if_faster, else ``measure`` with example_inputs and ``table`` without.
        fuse: whether activations may become a part of the layer before them.

    Returns:
        A :class:`strop.Report`: ``print`` it, ``.plot(path)``. Its ``.to_dict()`` has ``layers`` (each
        with ``name``, ``tied`` names, ``shape``, ``dtype``, ``sparsity``, ``dense_bytes``, ``saved_bytes``
        in a state dict, ``memory_bytes``, ``rows`` that were seen, ``plan``, ``ways`` by rows,
        ``timings`` in milliseconds, ``activation``), ``left_alone`` (with the ``reason``) and ``totals``.

    Raises:
        ValueError: a value or shape that does not fit, or options that exclude each other. Whatever is
            raised, the model is as it was.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256)).eval()
        >>> x = torch.randn(3, 256)
        >>> report = strop.sparsify(model, x, sparsity=0.9, only_if_faster=False)
        >>> report
        <strop.Report: 2 layers sparse, 0 left alone>
        >>> model(x).shape, report.to_dict()["layers"][0]["activation"]
        (torch.Size([3, 256]), 'gelu')

    """
    _check(model, filter, plan)
    only_if_faster = boolean(_OP, "only_if_faster", only_if_faster)
    fuse = boolean(_OP, "fuse", fuse)
    found = groups(model, filter)
    wanted = [group for group in found if not group.alone]
    if wanted and all(group.on_meta for group in wanted):
        raise ValueError(f"{_OP}: '{wanted[0].name}' is on meta, where there are no weights")
    masked = masks_of(model, found, sparsity, masks, pattern)
    fusions: Mapping[int, Fusion] = {}
    seen = None
    if example_inputs is not None:
        layers = [layer for group in wanted for layer in group.layers]
        possible = possible_fusions(model, layers) if fuse else {}
        seen = observed(model, example_inputs, layers, possible)
        fusions = seen.fusions
    options = Options(plan, dtype, only_if_faster, seen)
    with tqdm(
        found,
        desc="sparsify",
        unit="layer",
        delay=0.5,
        leave=False,
        disable=None,
        file=sys.stderr,
    ) as bar:
        outcomes = [outcome(group, masked.get(id(group)), fusions, options) for group in bar]
    named = {key for group in found for key in group.keys}
    report = report_of(outcomes, fusions, others(model, named))
    convert(model, outcomes, fusions)
    return report


def _check(model: object, filter: object, plan: str | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{_OP}: model is a {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(model, nn.Linear):
        raise ValueError(
            f"{_OP}: model is an nn.Linear, which cannot be replaced in place; use "
            "strop.nn.SparseLinear.from_dense"
        )
    if is_linear(model):
        raise ValueError(
            f"{_OP}: model is a {type(model).__name__}, which cannot be replaced in place; give a "
            "model that has it"
        )
    if filter is not None and not callable(filter):
        raise TypeError(f"{_OP}: filter is a {type(filter).__name__}; a function is needed")
    if plan is not None:
        instance(_OP, "plan", plan, str, "a string or None")
    if plan is not None and plan not in PLANS:
        raise ValueError(f"{_OP}: plan is {plan!r}; None, {', '.join(PLANS)} are known")
