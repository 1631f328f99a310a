"""What quantizing a model would save and lose."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import RenderableType
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from tqdm import tqdm

from strop._core import library
from strop._core.report import Report, counted
from strop._core.tensors import metadata, unreadable
from strop._quantize.fake_quantize import fake_quantize
from strop._quantize.report import picture, table
from strop._quantize.report.choices import Choice, Formats, choices
from strop._quantize.report.data import Entry, LeftAlone, Loss, Losses, Weight
from strop._quantize.storage import stored_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OP = "strop.quantization_report"
_QUANTIZABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Elements that are float64 at a time. On a CPU they stay in the cache, and are few enough for torch
# to use one thread: where other work has the cores, it took 15 times as long with two.
_PIECE = 1 << 15
_LARGE_PIECE = 1 << 24


@dataclass(frozen=True, repr=False, eq=False)
class QuantizationReport(Losses, Report):
    """These figures as a table and as a picture."""

    def __rich__(self) -> RenderableType:
        return table.table(self)

    def _draw(self, figure: Figure) -> None:
        if self.weight_size == 0:
            raise ValueError("strop.Report.plot: the model has no weights to draw")
        picture.draw(self, figure)

    def _summary(self) -> str:
        weights = counted(len(self.weights), "weight")
        return f"quantization of {weights} in {counted(len(self.choices), 'format')}"


def quantization_report(
    model_or_state_dict: nn.Module | Mapping[str, Any], *, formats: Formats | None = None
) -> Report:
    r"""How small each number format would make a model, and how much of its weights it would lose.

    Every floating tensor of at least two dimensions, a weight, is quantized by
    :func:`fake_quantize` with scales chosen from it, in each format. The report says how many bytes
    it takes then, and the signal to quantization noise ratio in dB,

    .. math::
        SQNR = 10 \log_{10} \frac{\sum x^2}{\sum (x - y)^2},

    summed in float64; Inf where y = x throughout. Totals are over all weights, their SQNR from the
    sums of all signal and all noise. The model is not changed.

    A weight of three dimensions is a stack of matrices, whose rows are its last axis; one of four
    or more is a convolution's kernel and taken as the matrix ``weight.flatten(1)``, one row an
    output channel. Everything else (biases, norms, integers, floats of 8 bits) is left alone, and
    listed with its bytes and the reason; so is what cannot be read: what other libraries quantized or
    distributed (tensors of a class of their own), what is on meta or not initialised, sparse layouts, and
    devices without kernels. Where nothing else is there, the latter four are errors. Tensors that share their memory under several names are counted once,
    under the first; the others are given beside it.

    Bytes are those of codes packed densely, each row to whole bytes, of a float32 scale for each
    block (1 byte in an MX format; 1 byte in NVFP4, and 4 for the tensor; float64 for float64
    weights), and of an int32 zero point for each block where the format is unsigned or not
    symmetric.

    Args:
        model_or_state_dict: a module, whose ``state_dict()`` is taken, or a state dict: tensors of
            any device by name.
        formats: what to compare. None: int8 and float8_e4m3fn per row, int4 in groups of 32, mxfp8,
            mxfp6_e2m3, mxfp4, nvfp4, and nf4 in groups of 64. Else a sequence: of names, dtypes or
            :class:`NumberFormat`, each with its usual block (what a recipe fixes; from 8 bits on a
            row; 64 in nf4; in other formats groups of 32), or of pairs (format, block_size). Or a
            mapping from labels to options of :func:`fake_quantize`: ``format``, ``block_size``,
            ``rounding``, ``symmetric``, ``quant_min``, ``quant_max``, ``eps``, ``seed``. A
            block_size has two entries, for rows and columns, -1 for a whole axis; None is the whole
            tensor.

    Returns:
        A :class:`Report`: ``print`` it, ``.plot(path)``. Its ``.to_dict()`` has ``formats``,
        ``weights`` (each with ``name``, ``tied`` names, ``shape``, ``matrix``, ``dtype``, ``bytes``,
        ``signal``, and by label in ``formats``: ``bytes``, of which ``code_bytes``, ``scale_bytes``
        and ``zero_point_bytes``, ``sqnr_db``, ``noise``), ``left_alone`` (each with its ``reason``), and ``totals`` (``bytes``
        of the weights, ``left_alone_bytes``, ``model_bytes``, and by label in ``formats`` the same
        figures of all weights, with ``ratio``, how many times smaller they are, ``model_bytes`` and
        ``model_ratio``).

    Raises:
        TypeError: something of another type than above.
        ValueError: an unknown format or option, one that does not fit, a format twice, weights of which
            all are not initialised or on a device that has no kernels.

    Example:
        >>> import strop, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 8))
        >>> report = strop.quantization_report(model, formats=["int8", ("int4", (1, 16))])
        >>> totals = report.to_dict()["totals"]["formats"]
        >>> totals["int8 per row"]["bytes"], totals["int4 groups of 16"]["bytes"]
        (640, 448)
        >>> totals["int8 per row"]["sqnr_db"] > totals["int4 groups of 16"]["sqnr_db"] > 15
        True

    """
    wanted = choices(formats)
    weights: list[tuple[Entry, Tensor]] = []
    left_alone: list[LeftAlone] = []
    unread: list[tuple[Entry, Tensor]] = []
    for entry, tensor in _entries(_tensors(model_or_state_dict)):
        if why := _no_weight(tensor):
            left_alone.append(LeftAlone(**vars(entry), reason=why, unreadable=False))
        elif why := unreadable(tensor) or _without_kernel(tensor):
            left_alone.append(LeftAlone(**vars(entry), reason=why, unreadable=True))
            unread.append((entry, tensor))
        else:
            weights.append((entry, tensor))
    for entry, tensor in [] if weights else unread:
        _check_has_kernel(entry.name, tensor)
    elements = len(wanted) * sum(tensor.numel() for _, tensor in weights)
    with (
        torch.no_grad(),
        tqdm(
            desc="quantization report",
            total=elements,
            unit="weight",
            unit_scale=True,
            delay=0.5,
            leave=False,
            disable=None,
            file=sys.stderr,
        ) as bar,
    ):
        tried = [_tried(entry, tensor, wanted, bar) for entry, tensor in weights]
    return QuantizationReport(wanted, tried, left_alone)


def _tensors(given: Any) -> dict[str, Tensor]:
    """The tensors of a model by name."""
    if isinstance(given, nn.Module):
        given = given.state_dict(keep_vars=True)  # (not everything can be detached)
    elif not isinstance(given, Mapping):
        raise TypeError(
            f"{_OP}: model_or_state_dict is a {type(given).__name__}; a torch.nn.Module or a state "
            "dict is needed"
        )
    found = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(
                f"{_OP}: a key of the state dict is a {type(name).__name__}; a string is needed"
            )
        if isinstance(value, Tensor):
            found[name] = value if unreadable(value) else value.detach()
        elif not name.endswith("_extra_state"):  # anything, by torch's convention
            raise TypeError(
                f"{_OP}: state dict entry {name!r} is a {type(value).__name__}; a tensor is needed"
            )
    return found


def _entries(tensors: Mapping[str, Tensor]) -> Iterator[tuple[Entry, Tensor]]:
    """Each tensor once, with every name that it has."""
    names: dict[Any, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(_identity(name, tensor), []).append(name)
    for first, *tied in names.values():
        tensor = tensors[first]
        shape, dtype, size = metadata(tensor)
        yield Entry(first, tuple(tied), shape, str(dtype).removeprefix("torch."), size), tensor


def _identity(name: str, tensor: Tensor) -> Any:
    """Equal for tensors of the same memory, be it read in another order."""
    if unreadable(tensor) or tensor.numel() == 0:
        return name
    return (tensor.device, tensor.data_ptr(), tensor.numel(), tensor.dtype)


def _no_weight(tensor: Tensor) -> str:
    """Why a tensor is no weight; nothing if it is one."""
    shape, dtype, _ = metadata(tensor)
    if dtype not in _QUANTIZABLE:
        return f"dtype {str(dtype).removeprefix('torch.')}"
    shapeless = is_lazy(tensor) or tensor.is_nested
    return "fewer than two dimensions" if len(shape) < 2 and not shapeless else ""


def _without_kernel(tensor: Tensor) -> str:
    known = tensor.device.type in library.DEVICES
    return "" if known else f"on {tensor.device}, where there are no kernels"


def _check_has_kernel(name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise ValueError(f"{_OP}: {name!r} is not initialised; run the model once")
    if tensor.is_nested:
        raise TypeError(f"{_OP}: {name!r} is a nested tensor; one of a single shape is needed")
    if unreadable(tensor).startswith("of layout"):
        raise TypeError(f"{_OP}: {name!r} has layout {tensor.layout}; torch.strided is needed")
    if unreadable(tensor).startswith("on meta") or _without_kernel(tensor):
        known = ", ".join(library.DEVICES)
        raise ValueError(f"{_OP}: {name!r} is on {tensor.device}; there are kernels for {known}")


def _tried(entry: Entry, tensor: Tensor, wanted: Sequence[Choice], bar: tqdm[Any]) -> Weight:
    """One weight in every format."""
    matrix = (tensor.flatten(1) if tensor.dim() > 3 else tensor.flatten(0, -2)).contiguous()
    result = torch.empty_like(matrix)
    signal = _energy(matrix)
    losses = {}
    for choice in wanted:
        fake_quantize(matrix, out=result, **choice.options)
        size = stored_bytes(
            matrix.shape,
            choice.format,
            choice.block_size,
            symmetric=choice.symmetric,
            dtype=matrix.dtype,
        )
        losses[choice.label] = Loss(size, signal, _energy(matrix, result))
        bar.update(matrix.numel())
    rows, columns = matrix.shape
    return Weight(**vars(entry), matrix=(rows, columns), losses=losses)


def _energy(x: Tensor, without: Tensor | None = None) -> float:
    """The sum of x^2, or of (x - without)^2, in float64, by pieces."""
    size = _PIECE if x.device.type == "cpu" else _LARGE_PIECE
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for i, piece in enumerate(x.flatten().split(size)):
        whole = piece.double()  # may be the weight itself
        if without is not None:
            whole = whole - without.flatten()[i * size : (i + 1) * size]
        total += whole.square().sum()
    return float(total)
