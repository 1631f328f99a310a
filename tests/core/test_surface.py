"""What others build on: public names, ops with their schemas, numpy bindings, keys of state dicts."""

import json
from pathlib import Path

import pytest
import torch

import strop
from strop import _C

LISTED = json.loads((Path(__file__).parent / "surface.json").read_text())


def names(module):
    return sorted(name for name in dir(module) if not name.startswith("__"))


def keys(make):
    return sorted(make().state_dict())


def weight(format=None, masked=True):
    return strop.pack_weight(
        torch.randn(4, 16), torch.rand(4, 16) > 0.5 if masked else None, format=format
    )


def quantized():
    return strop.quantize(torch.randn(4, 64), format="nvfp4")


FOUND = {
    "strop": lambda: sorted(strop.__all__),
    "strop.nn": lambda: sorted(strop.nn.__all__),
    "torch.ops.strop": lambda: sorted(
        str(schema)
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("strop::")
    ),
    "strop._C": lambda: names(_C),
    "strop._C.cpu": lambda: names(_C.cpu),
    "strop._C.reference": lambda: names(_C.reference),
    "state of PackedWeight": lambda: keys(weight),
    "state of PackedWeight, codes": lambda: keys(lambda: weight("nvfp4", masked=False)),
    "state of PackedWeight, codes and mask": lambda: keys(lambda: weight("int8")),
    "state of PackedLinear": lambda: keys(lambda: strop.nn.PackedLinear(weight(), torch.zeros(4))),
    "state of QuantizedTensor": lambda: keys(quantized),
    "state of Held": lambda: keys(lambda: strop.nn.Held(quantized())),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_others_build_on_is_as_listed(what):
    # A change on purpose goes into surface.json and CHANGELOG.md.
    assert FOUND[what]() == LISTED[what]


def test_everything_listed_is_looked_at():
    assert set(FOUND) == set(LISTED)
