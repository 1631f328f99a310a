"""Cases of the masked family: pruned layers, against torch's dense and sparse ones and scipy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

import strop
from strop._bench.case import Bar, Call, Case, register
from strop._bench.linear import dense

_NEVER_SLOWER = 0.97
SHAPES = {  # rows of input, K, N: what is promised at 50, 70, 80, 90 and 95 %, with AVX2
    (1, 4096, 4096): (1.4, 1.8, 2.6, 5.2, 8),
    (1, 768, 3072): (0.97, 0.97, 1.1, 1.8, 3),
    (8, 4096, 4096): (_NEVER_SLOWER,) * 5,
    (8, 768, 3072): (1.05, 1.7, 2.5, 4.5, 7),
    (16, 4096, 4096): (1.7, 2.8, 4.3, 8.5, 14),
    (32, 768, 3072): (_NEVER_SLOWER,) * 5,
    (128, 768, 3072): (1.5, 2.5, 3.5, 5.8, 9),
    (1024, 768, 3072): (1.45, 2.3, 3.2, 5.6, 9),
    (128, 4096, 4096): (1.6, 2.5, 3.5, 6.2, 10),
}
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)


@cache
def pruned(n: int, k: int, sparsity: float, pattern: str = "uniform") -> Tensor:
    """A pruned weight as of DLMC: each weight by chance, or the smallest of rows of unlike scale."""
    generator = torch.Generator().manual_seed(n + k)
    weight = torch.randn(n, k, generator=generator)
    if pattern == "uniform":
        return torch.where(torch.rand(n, k, generator=generator) < sparsity, 0, weight)
    if pattern == "magnitude":
        weight *= torch.exp(0.4 * torch.randn(n, 1, generator=generator))
        return torch.where(strop.prune_mask(weight, sparsity=sparsity), weight, 0)
    if pattern == "2:4":
        return torch.where(strop.prune_mask(weight, pattern="2:4"), weight, 0)
    blocks = torch.rand(n // 4, k // 4, generator=generator) < sparsity
    return torch.where(blocks.repeat_interleave(4, 0).repeat_interleave(4, 1), 0, weight)


def contenders(
    rows: int, weight: Tensor, peers: tuple[str, ...]
) -> Callable[[], Mapping[str, Callable[[], Call]]]:
    """Strop under the default plan, and those of its peers."""
    n, k = weight.shape

    def make() -> Mapping[str, Callable[[], Call]]:
        x = torch.randn(rows, k, generator=torch.Generator().manual_seed(1))

        def ours() -> Call:
            packed = strop.pack_weight(weight, rows=rows)
            return lambda: strop.packed_linear(x, packed)

        def csr() -> Call:
            held = weight.to_sparse_csr()
            return lambda: torch.nn.functional.linear(x, held)

        def scipy() -> Call:
            from scipy.sparse import csr_array  # type: ignore[import-untyped]

            held, across = csr_array(weight.numpy()), x.t().contiguous().numpy()
            return lambda: held @ across

        every = {**dense.layers(x, weight), "torch CSR": csr, "scipy CSR": scipy}
        return {"strop": ours} | {name: every[name] for name in peers if name in every}

    return make


def layer_name(rows: int, k: int, n: int, sparsity: float) -> str:
    """The name of a layer's case."""
    return f"{rows} x {k} by [{n}, {k}], {sparsity:.0%} pruned"


def _layer(rows: int, k: int, n: int, sparsity: float, promised: float) -> None:
    others = ("torch CSR", "scipy CSR") if sparsity in (0.8, 0.9) else ()
    peers = (*dense.LAYERS, *others)
    register(
        Case(
            "masked",
            layer_name(rows, k, n, sparsity),
            lambda: contenders(rows, pruned(n, k, sparsity), peers)(),
            bars=(dense.faster_than_dense(promised),),
        )
    )


for (_rows, _k, _n), _promised in SHAPES.items():
    for _sparsity, _ratio in zip(SPARSITIES, _promised, strict=True):
        _layer(_rows, _k, _n, _sparsity, _ratio)


def _other(name: str, rows: int, shape: tuple[int, int], sparsity: float, pattern: str) -> None:
    register(
        Case(
            "masked",
            f"{name}: {rows} x {shape[1]} by {list(shape)}, {sparsity:.0%} pruned",
            lambda: contenders(rows, pruned(*shape, sparsity, pattern), dense.LAYERS)(),
            bars=(dense.faster_than_dense(_NEVER_SLOWER),),
        )
    )


_other("transformer, by magnitude", 256, (512, 512), 0.9, "magnitude")
_other("transformer, by magnitude", 256, (2048, 512), 0.8, "magnitude")
_other("ResNet-50 1x1, by magnitude", 196, (1024, 256), 0.9, "magnitude")
_other("ResNet-50 1x1, by magnitude", 49, (2048, 512), 0.8, "magnitude")
_other("2:4", 128, (3072, 768), 0.5, "2:4")
_other("blocks of 4x4", 8, (3072, 768), 0.8, "blocks")
_other("blocks of 4x4", 128, (3072, 768), 0.8, "blocks")
_other("nothing pruned", 1, (4096, 4096), 0.0, "uniform")
_other("nothing pruned", 128, (3072, 768), 0.0, "uniform")
_other("hardly pruned", 16, (3072, 768), 0.01, "uniform")


def _bfloat16(rows: int, k: int, n: int, sparsity: float, promised: float) -> None:
    """Values of bfloat16 beside a float32 input, against values of float32."""

    def make() -> Mapping[str, Callable[[], Call]]:
        weight = pruned(n, k, sparsity)
        x = torch.randn(rows, k, generator=torch.Generator().manual_seed(1))

        def of(dtype: torch.dtype) -> Callable[[], Call]:
            def call() -> Call:
                packed = strop.pack_weight(weight, dtype=dtype, rows=rows, plan="packed")
                return lambda: strop.packed_linear(x, packed)

            return call

        return {"strop": of(torch.bfloat16), "strop, float32 values": of(torch.float32)}

    over = Bar("x float32 values", lambda t: t["strop, float32 values"] / t["strop"], promised)
    name = f"bfloat16 values: {layer_name(rows, k, n, sparsity)}"
    register(Case("masked", name, make, bars=(over,)))


_bfloat16(1, 4096, 4096, 0.5, 1.4)
_bfloat16(1, 4096, 4096, 0.7, 1.25)
for _rows, _k, _n in ((32, 768, 3072), (128, 768, 3072), (128, 4096, 4096)):
    for _sparsity in (0.5, 0.7, 0.9):
        _bfloat16(_rows, _k, _n, _sparsity, 1.0)


def _in_bfloat16(rows: int, sparsity: float) -> None:
    """All of it in bfloat16, against torch's dense layer, under the default plan."""

    def make() -> Mapping[str, Callable[[], Call]]:
        weight = pruned(3072, 768, sparsity).bfloat16()
        x = torch.randn(rows, 768, generator=torch.Generator().manual_seed(1)).bfloat16()

        def ours() -> Call:
            packed = strop.pack_weight(weight, rows=rows)
            return lambda: strop.packed_linear(x, packed)

        return {"strop": ours, **dense.layers(x, weight)}

    name = f"bfloat16 throughout: {layer_name(rows, 768, 3072, sparsity)}"
    register(Case("masked", name, make, bars=(dense.faster_than_dense(_NEVER_SLOWER),)))


for _rows in (1, 16, 128):
    for _sparsity in (0.5, 0.9):
        _in_bfloat16(_rows, _sparsity)


def _packing() -> Mapping[str, Callable[[], Call]]:
    weight = pruned(4096, 4096, 0.9)
    return {"strop": lambda: lambda: strop.pack_weight(weight, plan="packed")}


register(
    Case(
        "masked",
        "pack_weight [4096, 4096], 90 % pruned, for all rows",
        _packing,
        bars=(Bar("ms", lambda t: t["strop"] * 1e3, 80, at_least=False),),
    )
)


def _threads() -> Mapping[str, Callable[[], Call]]:
    packed = strop.pack_weight(pruned(3072, 768, 0.9), rows=256)
    x = torch.randn(256, 768)
    call = lambda: strop.packed_linear(x, packed)  # noqa: E731
    return {"strop": lambda: call, "strop, 2 threads": lambda: call}


register(
    Case(
        "masked",
        "256 x 768 by [3072, 768], 90 % pruned, two threads over one",
        _threads,
        bars=(Bar("x one thread", lambda t: t["strop"] / t["strop, 2 threads"], 1.75),),
        threads={"strop, 2 threads": 2},
    )
)
