"""What packed weights of every kind do on a GPU, or with shapes of one alone."""

import pytest
import torch

import strop


def replayed(product, x):
    """Runs a product that must not wait; then records it, replays it on another x, and returns what it gave."""
    product(x)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        product(x)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = product(x)
    x.normal_()
    graph.replay()
    return y


def assert_calls_of_shapes(w, dtype):
    """Of a [32, 64] weight without numbers."""
    bias = torch.empty(32, device="cuda", dtype=dtype)
    for rows in (1, 8, 16, 300):
        x = torch.empty(rows, 64, device="cuda", dtype=dtype)
        y = strop.packed_linear(x, w, bias, activation="gelu")
        assert (y.shape, y.dtype, y.is_cuda) == ((rows, 32), dtype, True)
        out = torch.empty(rows, 32, device="cuda", dtype=dtype)
        assert strop.packed_linear(x, w, bias, out=out) is out


def assert_columns_are_checked(w):
    """Of the same."""
    x = torch.empty(3, 63, device="cuda")
    for options in ({}, {"out": torch.empty(3, 32, device="cuda")}):
        with pytest.raises(ValueError, match=r"input has shape \[3, 63\]; the weight takes 64"):
            strop.packed_linear(x, w, **options)
