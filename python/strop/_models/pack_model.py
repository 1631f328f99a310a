"""Makes the linear layers of a model keep their weights packed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from strop._core.arguments import boolean
from strop._core.report import Report
from strop._linear.pack_codes import Format
from strop._models.convert import convert
from strop._models.fusion import Fusion, possible_fusions
from strop._models.layers import Filter, Group, groups
from strop._models.linear_kinds import is_linear
from strop._models.masks import masks_of
from strop._models.options import Choice, Options, Recipe
from strop._models.others import others
from strop._models.outcome import Outcome, outcome, with_errors
from strop._models.report.report import report_of
from strop._models.run import Observed, observed, running
from strop._prune.prune_mask import Pattern

_OP = "strop.pack_model"


def pack_model(
    model: nn.Module,
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any] | None = None,
    *,
    sparsity: float | None = None,
    masks: Mapping[str, Tensor] | None = None,
    pattern: Pattern = "unstructured",
    format: Format | None = None,
    block_size: Sequence[int] | None = None,
    symmetric: bool = True,
    activations: str | None = None,
    dtype: torch.dtype | None = None,
    recipe: Recipe | None = None,
    min_sqnr: float | None = None,
    plan: str | None = None,
    fuse: bool = True,
    filter: Filter | None = None,
    only_if_faster: bool = True,
) -> Report:
    """Replaces, in place, the linear layers of a model by :class:`strop.nn.PackedLinear`.

    Linear layers are ``nn.Linear``, its subclasses that compute the same, and GPT-2's ``Conv1D``. They
    become codes of a ``format``, or skip what is pruned, or both. What is pruned is what is zero (beside a
    format, zero is a code like others), or masked by ``torch.nn.utils.prune``; or what ``masks`` says; or
    the smallest weights, where ``sparsity`` or a pattern is given: nothing is retrained, and accuracy is
    lost. Weights are frozen from then on; biases stay the parameters that they were, and what was set on a
    layer is carried over. :func:`strop.densify` is the way back.

    Layers whose weight torchao, bitsandbytes or compressed-tensors quantized, or is a
    :class:`strop.QuantizedTensor`, keep it, bit for bit, whatever the format. Where the weight is of
    integers, their input is quantized as ``activations`` says, else as they do themselves, if that is
    of each row as it comes, to 8-bit integers; a recipe with ``activations`` None leaves it alone.

    A layer that runs no faster stays dense, with its zeros (a mask of ``torch.nn.utils.prune`` becomes
    zeros for good). With ``example_inputs`` the model is run, in eager and in eval mode, without gradients
    and with the state of torch's random numbers restored, to see the rows of input of each layer, and again
    for what packing changes of its results; both ways are timed on as many rows, and only what they need is
    prepared and kept in memory. Without, this machine's costs (:func:`strop.tune`) tell of layers without a
    format, for any number of rows, and all with one are packed.

    Left alone, and listed with the reason, are: subclasses of ``nn.Linear`` with more of their own than how
    they are made; layers with hooks, with parametrizations, with more than a weight and a bias, or of which
    ``forward`` was replaced; ``nn.MultiheadAttention``'s out_proj; weights that strop cannot read, such as
    DTensors, or what is on meta; and a weight that something else has too, such as an embedding
    (:func:`strop.prune_masks` has the same rule). With ``example_inputs`` also what these do not call, and
    layers whose weight or bias the model reads by itself. Linear layers that share a weight share the
    packed one, and a layer that is used at several places is replaced at each. Matrices that no linear
    layer has (experts, convolutions) are listed as well.

    Code of the model that reads the ``weight`` of a converted layer finds the dense one, computed.
    ``nn.TransformerEncoderLayer`` has a path in eval mode that does so: it is turned off there, and so are
    nested tensors in its ``nn.TransformerEncoder`` (padding is computed, and not zeros, then). What
    ``torch.compile`` made of the model is compiled anew at the next call.

    An activation becomes a part of the layer before it where ``example_inputs`` show that it took every
    result of that layer, and nothing else saw one; ``nn.Identity`` takes its place: ``nn.ReLU``,
    ``nn.GELU``, ``nn.SiLU`` next to a layer in an ``nn.Sequential``, and ``intermediate_act_fn`` of a
    module that has it and ``dense`` and no more, as transformers' BERT layers. (What a forward does by the
    classes of its modules is not seen: such a model needs ``fuse=False``.)

    Layers with a mask already are ranked and pruned along with dense ones, by sparsity, a pattern or masks:
    what was pruned stays so, and a layer keeps its activation, its dtype and the way its plan was made
    unless others are named. Layers in codes stay as they are.

    Args:
        model: changed in place; it cannot be a linear layer itself.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        sparsity: the share of weights to prune, by one ranking of all layers that are not left alone.
        masks: by the names of parameters, any that one has, True keeps, as :func:`strop.prune_masks`
            returns them; a layer that is left alone gets the zeros as well, and one without a mask is
            taken as it is.
        pattern: ``unstructured``, or as of :func:`strop.prune_mask`; ``n:m`` needs no sparsity.
        format: of codes, as of :func:`strop.pack_weight`; None keeps values.
        block_size: weights that share a scale, likewise.
        symmetric: of scales, likewise.
        activations: None, ``int8`` or ``uint8``: what each row of a layer's input is quantized to, likewise.
        dtype: of the values that stay, without a format; None is each weight's.
        recipe: options for some layers: a dict, or the path of a TOML file with a table for each. Keys are
            patterns of names as of ``fnmatch``, the first that fits counts. Values are any of ``format``,
            ``block_size``, ``symmetric``, ``activations``, ``dtype``, ``min_sqnr``, ``plan``,
            ``only_if_faster`` and ``skip``, or None to leave a layer alone. What they do not say is as for
            all, but that with a ``format`` go its own ``activations``, ``block_size``, ``symmetric`` and
            ``dtype``.
        min_sqnr: the least that a layer's results have to keep on example_inputs, in dB of signal to noise;
            a layer that keeps less stays as it is. None is any.
        plan: how methods are chosen, as of :func:`strop.pack_weight`; None is ``packed`` if not
            only_if_faster, else ``measure`` with example_inputs and ``auto`` without.
        fuse: whether activations may become a part of the layer before them.
        filter: called with a layer's name and the layer, for those to convert; None is all.
        only_if_faster: False converts every layer, never to the dense way.

    Returns:
        A :class:`strop.Report`: ``print`` it, ``.plot(path)``. Its ``.to_dict()`` has ``layers`` (each
        with ``name``, ``tied`` names, ``shape``, ``dtype``, ``format``, ``activations``, ``sparsity``,
        ``sqnr`` in dB, ``dense_bytes``, ``saved_bytes`` in a state dict, ``memory_bytes``, ``rows`` that were
        seen, ``plan``, ``methods`` by rows, ``timings`` in milliseconds, ``activation``), ``left_alone``
        (with the ``reason``) and ``totals``.

    Raises:
        ValueError: a value or shape that does not fit, or options that exclude each other. Whatever is
            raised, the model is as it was.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256)).eval()
        >>> x = torch.randn(3, 256)
        >>> report = strop.pack_model(model, x, format="int8", activations="uint8", only_if_faster=False)
        >>> report
        <strop.Report: 2 layers packed, 0 left alone>
        >>> layer = report.to_dict()["layers"][0]
        >>> layer["activation"], layer["sqnr"] > 30
        ('gelu', True)

    """
    _check(model, filter)
    fuse = boolean(_OP, "fuse", fuse)
    options = Options(
        format, block_size, symmetric, activations, dtype, min_sqnr, plan, only_if_faster
    )
    choice = Choice(options, recipe)
    found = groups(model, filter)
    chosen = {id(group): choice.of(_names(group)) for group in found}
    choice.check_used()
    _check_inputs(example_inputs, chosen.values())
    wanted = [group for group in found if not group.alone and not chosen[id(group)].skip]
    if wanted and all(group.on_meta for group in wanted):
        raise ValueError(f"{_OP}: '{wanted[0].name}' is on meta, where there are no weights")
    ranked = found if masks is not None else [g for g in found if not chosen[id(g)].skip]
    masked = masks_of(model, ranked, sparsity, masks, pattern)
    if example_inputs is None:
        seen, outcomes = None, _outcomes(found, masked, chosen, None)
    else:
        with running(model, (layer for group in found for layer in group.layers)):
            layers = [layer for group in wanted for layer in group.layers]
            possible = possible_fusions(model, layers) if fuse else {}
            seen = observed(model, example_inputs, layers, possible)
            outcomes = _outcomes(found, masked, chosen, seen)
            if any(one.converted for one in outcomes):
                least = {key: options.min_sqnr for key, options in chosen.items()}
                outcomes = with_errors(outcomes, model, example_inputs, least)
    named = {key for group in found for key in group.keys}
    fusions: Mapping[int, Fusion] = {} if seen is None else seen.fusions
    report = report_of(outcomes, fusions, others(model, named))
    convert(model, outcomes, fusions)
    return report


def _outcomes(
    found: Sequence[Group],
    masked: Mapping[int, Tensor],
    chosen: Mapping[int, Options],
    seen: Observed | None,
) -> list[Outcome]:
    fusions: Mapping[int, Fusion] = {} if seen is None else seen.fusions
    with tqdm(
        found,
        desc="pack_model",
        unit="layer",
        delay=0.5,
        leave=False,
        disable=None,
        file=sys.stderr,
    ) as bar:
        return [
            outcome(group, masked.get(id(group)), fusions, chosen[id(group)], seen) for group in bar
        ]


def _names(group: Group) -> list[str]:
    return [name for layer in group.layers for name in layer.names]


def _check_inputs(example_inputs: object, options: Iterable[Options]) -> None:
    if example_inputs is None and any(one.min_sqnr is not None for one in options):
        raise ValueError(f"{_OP}: min_sqnr is given, but no example_inputs to measure it on")


def _check(model: object, filter: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{_OP}: model is a {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(model, nn.Linear):
        raise ValueError(
            f"{_OP}: model is an nn.Linear, which cannot be replaced in place; use "
            "strop.nn.PackedLinear.from_dense"
        )
    if is_linear(model):
        raise ValueError(
            f"{_OP}: model is a {type(model).__name__}, which cannot be replaced in place; give a "
            "model that has it"
        )
    if filter is not None and not callable(filter):
        raise TypeError(f"{_OP}: filter is a {type(filter).__name__}; a function is needed")
