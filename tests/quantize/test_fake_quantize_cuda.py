"""fake_quantize where only a GPU can show it: streams, graphs, seeds on the device, large tensors."""

import pytest
import torch

import strop
from core.devices import assert_same_bits

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

OPTIONS = [
    {"block_size": None},
    {"block_size": (1, 32)},
    {"block_size": (1, -1)},
    {"block_size": (-1, 1)},
    {"block_size": (1, 33), "symmetric": False},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_every_kernel_once(dtype):
    # Short: it also runs under the toolkit's sanitizers, which take a hundred times as long.
    whole = torch.randn(70 * 1056 + 1).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    stochastic = {"block_size": (1, 32), "rounding": "stochastic", "seed": 3}
    for options in (*OPTIONS, {"block_size": (1, 256)}, stochastic):
        for x in (whole[:-1].view(70, 1056), whole[1:].view(70, 1056)):
            every_kernel(x, wide, {"format": "int4", **options})


def every_kernel(x, wide, options):
    assert_same_bits(
        strop.fake_quantize(x.cuda(), **options).cpu(), strop.fake_quantize(x, **options), options
    )
    block = options["block_size"] or x.shape
    sizes = [n if b < 0 else b for n, b in zip(x.shape, block, strict=True)]
    grid = [-(-n // b) for n, b in zip(x.shape, sizes, strict=True)]
    scale, zero = (torch.rand(grid) + 0.5).to(wide), torch.randn(grid).to(wide)
    # Straight through; learned, each block its own; learned, one for all.
    for leaves, others in (((x,), (scale, zero)), ((x, scale, zero), ()), ((x, scale[:1, :1]), ())):
        found = []
        for device in ("cpu", "cuda"):
            there = [t.detach().to(device).requires_grad_() for t in leaves]
            y = strop.fake_quantize(*there, *(t.to(device) for t in others), **options)
            dy = torch.ones(x.numel() + 1, dtype=x.dtype, device=device)[1:].view(x.shape)
            found.append([y.detach(), *torch.autograd.grad(y, there, dy)])
        for a, b in zip(*found, strict=True):
            if x.dtype == torch.float64 and a.shape != x.shape:  # sums in another order
                torch.testing.assert_close(b.cpu(), a)
            else:
                assert_same_bits(b.cpu(), a, options)


@pytest.mark.parametrize("format", ["int4", "uint3", "int16", "float8_e4m3fn", "nf4", "mxfp6_e2m3"])
def test_every_kernel_of_formats(format):
    # As short, for the sanitizers as well.
    x = torch.randn(70, 1056)
    block = {} if format.startswith("mx") else {"block_size": (1, 33)}
    for rounding in ("half_even",) if format == "nf4" else ("half_even", "floor"):
        options = {"rounding": rounding, **block}
        there = strop.quantize(x.cuda(), format=format, **options)
        here = strop.quantize(x, format=format, **options)
        for a, b in zip(there.state_dict().values(), here.state_dict().values(), strict=True):
            assert torch.equal(a.cpu(), b)
        assert_same_bits(strop.dequantize(there).cpu(), strop.dequantize(here))
        wanted = strop.fake_quantize(x, format=format, **options)
        assert_same_bits(strop.fake_quantize(x.cuda(), format=format, **options).cpu(), wanted)
    codes = torch.randint(0, 8, (70, 1057), dtype=torch.uint8)
    packed = strop.pack_bits(codes.cuda(), 3)
    assert torch.equal(strop.unpack_bits(packed, 3, 1057).cpu(), codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_every_kernel_of_two_levels(dtype):
    x = torch.randn(70, 1056).to(dtype)
    wanted = strop.fake_quantize(x, format="nvfp4")
    assert_same_bits(strop.fake_quantize(x.cuda(), format="nvfp4").cpu(), wanted)
    there, here = strop.quantize(x.cuda(), format="nvfp4"), strop.quantize(x, format="nvfp4")
    assert torch.equal(there.tensor_scale.cpu(), here.tensor_scale)
    assert torch.equal(there.codes.cpu(), here.codes)
    assert_same_bits(strop.dequantize(there).cpu(), wanted)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_streams(options):
    x = torch.randn(513, 2050, device="cuda")
    expected = strop.fake_quantize(x.cpu(), **options)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = strop.fake_quantize(x, **options)
    stream.synchronize()
    assert_same_bits(y.cpu(), expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_graphs(options):
    x = torch.randn(129, 2050, device="cuda")
    seed = torch.tensor(1, device="cuda")
    out = torch.empty_like(x)
    call = lambda: strop.fake_quantize(  # noqa: E731
        x, rounding="stochastic", seed=seed, out=out, **options
    )
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for number in (1, 2):
        seed.fill_(number)
        x.normal_()
        graph.replay()
        expected = strop.fake_quantize(x.cpu(), rounding="stochastic", seed=number, **options)
        assert_same_bits(out.cpu(), expected)


def test_nothing_is_waited_for():
    x = torch.randn(64, 4096, device="cuda")
    scale = torch.rand(64, 1, device="cuda").add_(0.1).requires_grad_()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for options in OPTIONS:
            strop.fake_quantize(x, **options)
        strop.fake_quantize(x, scale, block_size=(1, -1)).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert scale.grad.isfinite().all()


def test_more_elements_than_32_bits_count():
    free, _ = torch.cuda.mem_get_info()
    count = 2**31 + 4099
    if free < 3 * 2 * count:
        pytest.skip(f"needs {6 * count >> 30} GiB of GPU memory, {free >> 30} are free")
    x = torch.ones(count, device="cuda", dtype=torch.bfloat16)
    x[-1] = 0.3
    y = strop.fake_quantize(x, torch.tensor(0.25, device="cuda"), format="int4")
    assert y[-1].item() == 0.25
    assert bool((y[-4099:-1] == 1).all())
    assert bool((y[:4099] == 1).all())


def test_errors_name_the_device():
    x = torch.randn(4, device="cuda")
    with pytest.raises(ValueError, match="scale is on another device than input"):
        strop.fake_quantize(x, torch.tensor(0.5))
    seed = torch.tensor(1, device="cuda")
    with pytest.raises(ValueError, match="seed is on another device than input"):
        strop.fake_quantize(torch.randn(4), rounding="stochastic", seed=seed)
