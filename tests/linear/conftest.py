"""Fixtures of the tests of packed weights."""

import pytest
import torch

import strop
from strop._linear import machine_costs


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A file to keep the costs in, that no other test knows."""
    monkeypatch.setenv("STROP_TUNE", str(tmp_path / "costs.json"))
    monkeypatch.setattr(machine_costs, "_known", {})
    return tmp_path / "costs.json"


@pytest.fixture
def compiled_product():
    """packed_linear compiled, of which a process does not compile as many weights as there are tests."""
    torch._dynamo.reset()
    return torch.compile(strop.packed_linear, fullgraph=True, backend="aot_eager")
