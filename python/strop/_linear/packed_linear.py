"""Linear layers whose weight stays packed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from strop._linear import coded_linear, masked_linear
from strop._linear.activations import checked_activation
from strop._linear.coded_weight import CodedWeight
from strop._linear.dense_weight import DenseWeight
from strop._linear.masked_codes import MaskedCodes
from strop._linear.masked_weight import MaskedWeight
from strop._linear.packed_weight import PackedWeight

_OP = "strop.packed_linear"
PRODUCT_OF: dict[type[PackedWeight], Callable[..., Tensor]] = {
    MaskedWeight: masked_linear.product,
    MaskedCodes: masked_linear.product_of_codes,
    CodedWeight: coded_linear.product,
    DenseWeight: masked_linear.product_of_dense,
}
"""What multiplies by each kind of weight: called with input, weight, bias, activation and out."""


def packed_linear(
    input: Tensor,
    weight: PackedWeight,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    r"""A linear layer whose weight stays packed, and an activation in the same pass.

    .. math:: y = \mathrm{activation}(x W^T + b)

    Without quantized activations W is what ``weight.to_dense()`` gives, and sums are float32, in an order that
    the plan fixes: deterministic, and of packed methods the same for any number of threads. With them each row of x is
    quantized first, as :func:`strop.quantize` does with ``block_size=(1, -1)``, and integers are multiplied:
    the same bits on every instruction set as well. A row of x with an Inf or a NaN gives NaN then.

    Of a weight with a mask, where the plan has a packed method, a pruned weight contributes nothing, even for an
    Inf or a NaN of the input; where it has dense it contributes 0 times that. ``weight.plan()`` tells.

    Gradients: of input and bias, by W; where x is quantized, straight through that. The weight is frozen.
    The input's gradient uses the transposed layout if ``pack_weight(..., backward=True)`` prepared it.

    Args:
        input: [..., K], float32, bfloat16 or float16, whatever the weight's values are; float64 with
            values of float64 (the reference loop).
        weight: a :class:`PackedWeight` of shape (N, K).
        bias: [N], of a dtype that the input may have.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.
        out: [..., N], which must not overlap the arguments; any strides.

    Returns:
        [..., N], of the input's dtype; ``out`` if given. Under autocast the input is cast as
        ``torch.nn.functional.linear`` casts it; the weight stays.

    Raises:
        ValueError: a value or shape that does not fit, before anything is written.
        TypeError: a dtype or type that does not fit.
        RuntimeError: for ``out`` where a gradient would be needed.

    Example:
        >>> import strop, torch
        >>> x, weight = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, -1.0]])
        >>> w = strop.pack_weight(weight)
        >>> strop.packed_linear(x, w, torch.tensor([0.5, 0.0]))
        tensor([[ 4.5000, -2.0000]])
        >>> strop.packed_linear(x, w, activation="relu")
        tensor([[4., 0.]])
        >>> w = strop.pack_weight(weight, format="int8", activations="int8")
        >>> strop.packed_linear(x, w).shape
        torch.Size([1, 2])

    """
    product = PRODUCT_OF.get(type(weight))
    if product is None:
        raise TypeError(f"{_OP}: weight is a {type(weight).__name__}; a PackedWeight is needed")
    checked_activation(_OP, activation)
    return product(input, weight, bias, activation, out)
