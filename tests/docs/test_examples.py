"""The examples, shortened."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from examples.learned_quantization.quantizers import quantize_weights
from examples.learned_quantization.training import compare, digits, network, train

pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")


def test_learned_quantization_of_digits():
    found = compare(("int4", "int2"), epochs=6)
    whole = found["float", "float32"]
    assert whole > 0.93
    assert found["only rounded", "int2"] < whole - 0.04
    for format in ("int4", "int2"):
        for method in ("straight-through", "learned"):
            assert found[method, format] > 0.94, (method, format)


def test_learned_scales_learn_and_weights_stay_on_the_grid():
    training, _ = digits()
    model = network()
    quantize_weights(model, "learned", "int2")
    before = model[0].parametrizations.weight[0].scale.detach().clone()
    train(model, training, 1, 1e-2)
    scale = model[0].parametrizations.weight[0].scale.detach()
    assert not torch.equal(scale, before)
    codes = model[0].weight.detach() / scale
    torch.testing.assert_close(codes, codes.round())
    assert set(codes.round().unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0}
    assert all(
        parametrize.is_parametrized(m) for m in model if isinstance(m, nn.Conv2d | nn.Linear)
    )
