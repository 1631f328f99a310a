"""quantize, dequantize, choose_scale, pack_bits, unpack_bits: against the oracle, on every device."""

import math

import numpy as np
import pytest
import torch

import strop
from core.devices import CudaHost, _cuda_host, assert_same_bits, oracle, to_array, to_tensor
from quantize.problems import (
    DTYPES,
    INTEGERS,
    RECIPES,
    blocks_of,
    grid_of,
    roundings_of,
    sample,
    scale_dtype,
)
from strop import _C

FORMATS = [f.name for f in strop.formats() if f.bits]
SHAPES = [(), (5,), (6, 70), (7, 1), (3, 4, 33), (0, 3)]
fake = oracle("fake_quantize")


def arrays(*tensors):
    return [to_array(t) for t in tensors]


def quantized(device, *tensors, **options):
    """(codes, scale, zero_point, tensor_scale) there, as arrays; None for what was not chosen."""
    if isinstance(device, CudaHost):
        return _cuda_host.quantize(*arrays(*tensors), **options)
    q = strop.quantize(*(None if t is None else device.put(t) for t in tensors), **options)
    given = len(tensors) > 1
    chosen = (None, None, None) if given else (q.scale, q.zero_point, q.tensor_scale)
    return [None if t is None else to_array(t.cpu()) for t in (q.codes, *chosen)]


def restored(device, kept, like, dtype=None, **options):
    """What dequantize makes of them there."""
    dtype = dtype or like.dtype
    if isinstance(device, CudaHost):
        wanted = to_array(torch.empty(0, dtype=dtype)).dtype
        shape = list(like.shape)
        return to_tensor(_cuda_host.dequantize(*kept, shape=shape, dtype=wanted, **options))
    there = [None if a is None else device.put(torch.as_tensor(a)) for a in kept]
    block = options.get("block_size")
    q = strop.QuantizedTensor(*there, options["format"], block, tuple(like.shape), like.dtype)
    return strop.dequantize(q, dtype=dtype).cpu()


def assert_same_arrays(found, expected, note):
    names = ("codes", "scale", "zero_point", "tensor_scale")
    for name, a, b in zip(names, found, expected, strict=True):
        if b is None:
            assert a is None, (name, note)
        else:
            np.testing.assert_array_equal(a, b, f"{name} {note}", strict=True)


def problems(format, dtype):
    """(tensors, options) of every kind, in small shapes."""
    integer = format in INTEGERS
    for shape in SHAPES:
        x = sample(shape, dtype)
        for block in blocks_of(format, shape) if shape else [None]:
            options = {"format": format} | ({} if block is None else {"block_size": block})
            grid, wide = grid_of(shape, block), scale_dtype(dtype)
            scale = (torch.rand(grid) * 0.3 + 0.05).to(wide)
            # Every rounding in one shape, which has short blocks and rows that end inside a byte.
            for rounding in roundings_of(format) if shape == (6, 70) else ["half_even"]:
                random = options | {"rounding": rounding, "seed": 3}
                yield (x,), random
                if format not in RECIPES:
                    yield (x, scale), random
                if integer:
                    yield (x, scale, torch.randint(-3, 4, grid)), random
                    yield (x, scale, torch.randn(grid).to(wide)), random
            if integer:
                yield (x,), options | {"symmetric": False}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_codes_and_what_they_restore(device, format, dtype):
    for tensors, options in problems(format, dtype):
        found = quantized(device, *tensors, **options)
        assert_same_arrays(found, _C.reference.quantize(*arrays(*tensors), **options), options)
        scale = found[1] if len(tensors) == 1 else to_array(tensors[1])
        zero = found[2] if len(tensors) < 3 else to_array(tensors[2])
        kept = (found[0], scale, zero, found[3])
        kind = {k: options[k] for k in ("format", "block_size") if k in options}
        y = restored(device, kept, tensors[0], **kind)
        assert_same_bits(y, fake(*tensors, **options), options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [None, (1, 64), (1, -1), (-1, 1), (130, 96), (1, 4099)], ids=str)
def test_large(device, block, dtype):
    # Beyond a cache: several threads, streaming stores, blocks that are read twice.
    x = sample(device.size((700, 4100), (140, 300)), dtype)
    x[3, 5] = math.nan
    for format in ("int3", "int4", "uint8", "int16", "float8_e4m3fn", "nf4"):
        options = {"format": format, "block_size": block}
        kept = quantized(device, x, **options)
        y = restored(device, kept, x, **options)
        assert_same_bits(y, strop.fake_quantize(x, **options), options)


def test_columns_that_no_tile_holds(device):
    # Neighbours' codes share bytes, their blocks do not fit a cache.
    x = sample(device.size((9000, 21), (2000, 21)), torch.float32)
    for options in ({"block_size": (-1, 1)}, {"block_size": (-1, 3)}, {"block_size": (-1, -1)}):
        kept = quantized(device, x, format="int4", **options)
        y = restored(device, kept, x, format="int4", **options)
        assert_same_bits(y, strop.fake_quantize(x, format="int4", **options), options)


@pytest.mark.parametrize("format", RECIPES)
def test_large_recipes(device, format):
    x = sample(device.size((700, 4100), (140, 300)), torch.float32)
    kept = quantized(device, x, format=format)
    y = restored(device, kept, x, format=format)
    assert_same_bits(y, strop.fake_quantize(x, format=format))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", ["int4", "uint8", "int16", "float8_e5m2", "nf4", "mxfp6_e2m3"])
def test_other_dtypes(device, format, dtype):
    x = sample((6, 70), torch.float32)
    kept = quantized(device, x, format=format)
    y = restored(device, kept, x, dtype=dtype, format=format)
    assert_same_bits(y, fake(x, format=format).to(dtype))


@pytest.mark.parametrize("bits", range(1, 9))
def test_bits(device, bits):
    for shape in [(0,), (1,), (7,), (8,), (9,), (3, 130), (2, 3, 1000), (5, 0), (1, 70000)]:
        codes = torch.randint(0, 256, shape, dtype=torch.uint8)
        wanted = _C.reference.pack_bits(codes.numpy(), bits)
        if isinstance(device, CudaHost):
            packed = _cuda_host.pack_bits(codes.numpy(), bits)
            again = _cuda_host.unpack_bits(packed, bits, shape[-1])
        else:
            there = strop.pack_bits(device.put(codes), bits)
            packed = there.cpu().numpy()
            again = strop.unpack_bits(there, bits, shape[-1]).cpu().numpy()
        np.testing.assert_array_equal(packed, wanted, strict=True)
        np.testing.assert_array_equal(again, codes.numpy() & ((1 << bits) - 1), strict=True)


def test_layout_of_codes():
    q = strop.quantize(torch.tensor([[1.0, -2, 3], [-4, 5, 6]]), torch.tensor(1.0), format="int4")
    assert q.codes.tolist() == [[0xE1, 0x03], [0x5C, 0x06]]
    q = strop.quantize(torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor(1.0), format="uint3")
    assert q.codes.tolist() == [0b11010001, 0b01011000]  # 1, 2, the low bits of 3; the rest
    q = strop.quantize(torch.tensor([-1.0, 300]), torch.tensor(1.0), format="int16")
    assert q.codes.dtype == torch.int16
    assert q.codes.tolist() == [-1, 300]


@pytest.mark.parametrize("format", [f for f in FORMATS if f not in INTEGERS and f not in RECIPES])
def test_every_code(device, format):
    # Codes that no number has are restored as well: NaN, Inf.
    of = strop.NumberFormat.get(format)
    codes = np.arange(1 << of.bits, dtype=np.uint8)
    packed = _C.reference.pack_bits(codes, of.bits)
    like = torch.empty(codes.size)
    y = restored(
        device,
        (packed, np.float32(1)[()] * np.ones(1, np.float32), None, None),
        like,
        format=format,
    )
    assert_same_bits(y, torch.tensor(_C.format_values(format), dtype=torch.float32))
    finite = y.isfinite()
    again = quantized(device, y, torch.tensor(1.0), format=format)[0]
    codes_again = _C.reference.unpack_bits(again, of.bits, codes.size)
    np.testing.assert_array_equal(codes_again[finite.numpy()], codes[finite.numpy()])


@pytest.mark.parametrize("format", FORMATS)
def test_not_finite(device, format):
    x = torch.linspace(-3, 3, 64).view(2, 32).clone()
    x[0, 3], x[0, 4] = math.nan, math.inf
    options = {"format": format} | ({} if format in RECIPES else {"block_size": (1, -1)})
    kept = quantized(device, x, **options)
    y = restored(device, kept, x, **options)
    assert_same_bits(y, fake(x, **options))
    if format not in RECIPES:
        one = torch.tensor(0.5)
        codes = quantized(device, x, one, format=format)[0]
        y = restored(device, (codes, to_array(one), None, None), x, format=format)
        has_nan = format.startswith("float8")
        assert bool(y[0, 3].isnan()) == has_nan
        rest = torch.arange(64) != 3
        wanted = fake(x, one, format=format).flatten()
        assert_same_bits(y.flatten()[rest], wanted[rest])


def test_threads_change_nothing():
    before = torch.get_num_threads()
    x = sample((1025, 3001), torch.float32)
    try:
        for options in (
            {"format": "int3", "block_size": (1, 33)},
            {"format": "nvfp4"},
            {"format": "int4"},
            {"format": "uint2", "block_size": (-1, 1)},
        ):
            found = []
            for threads in (1, 4):
                torch.set_num_threads(threads)
                q = strop.quantize(x, **options)
                found.append([*q.state_dict().values(), strop.dequantize(q)])
            for a, b in zip(*found, strict=True):
                assert torch.equal(a, b), options
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("format", ["int4", "int16", "mxfp8", "nvfp4", "nf4"])
def test_any_layout(torch_device, format):
    x = sample((4, 6, 40), torch.float32)
    block = {} if format in RECIPES else {"block_size": (1, 2, 20)}
    for strided in (
        x.transpose(0, 2),
        x[:, ::2],
        x[..., 1:],
        x[:1].expand(4, 6, 40),
        x.permute(1, 0, 2),
    ):
        there = torch_device.put(strided)
        q = strop.quantize(there, format=format, **block)
        plain = strop.quantize(there.contiguous(), format=format, **block)
        assert torch.equal(q.codes, plain.codes)
        y = strop.dequantize(q)
        for out in (
            torch.empty_like(there.contiguous()),
            torch.empty_like(there.mT).mT,
            torch.empty((*there.shape, 2), device=there.device)[..., 0],
        ):
            assert strop.dequantize(q, out=out) is out
            assert_same_bits(out.cpu(), y.cpu())


def test_choose_scale(torch_device):
    x = sample((6, 70), torch.float32)
    for format in FORMATS:
        for symmetric in (True, False) if format in INTEGERS else (True,):
            block = {} if format in RECIPES else {"block_size": (1, 32)}
            options = {"format": format, "symmetric": symmetric, **block}
            scale, zero, tensor_scale = strop.choose_scale(torch_device.put(x), **options)
            q = strop.quantize(torch_device.put(x), **options)
            assert scale.dtype == torch.float32
            assert (tensor_scale is not None) == (format == "nvfp4")
            if format in RECIPES:
                continue
            assert torch.equal(scale, q.scale)
            assert (zero is None) == (q.zero_point is None)
            wanted = strop.fake_quantize(torch_device.put(x), **options)
            y = strop.fake_quantize(torch_device.put(x), scale, zero, format=format, **block)
            assert_same_bits(y.cpu(), wanted.cpu())


class TestTorch:
    def test_opcheck(self):
        x = sample((6, 70), torch.float32)
        ops = torch.ops.strop
        q = strop.quantize(x, format="int4", block_size=(1, 32))
        kept = (q.codes, q.scale, None, None, "int4", [1, 32])
        for op, arguments in (
            (ops.quantize.default, (x, None, None, "int4", [1, 32], "half_even", True)),
            (ops.quantize.default, (x, None, None, "nvfp4", [], "half_even", True)),
            (ops.choose_scale.default, (x, "uint4", [1, 32], False)),
            (ops.dequantize.default, (*kept, [6, 70], torch.float32)),
            (ops.pack_bits.default, (q.codes, 3)),
            (ops.unpack_bits.default, (q.codes, 4, 70)),
        ):
            torch.library.opcheck(op, arguments)
        torch.library.opcheck(ops.dequantize.out, kept, {"out": torch.empty(6, 70)})
        codes = {"out": torch.empty(6, 70, dtype=torch.uint8)}
        torch.library.opcheck(ops.unpack_bits.out, (q.codes, 4, 70), codes)

    @pytest.mark.parametrize("format", ["int4", "uint4", "mxfp4", "nvfp4"])
    def test_compile_and_export(self, format):
        def through(x):
            return strop.dequantize(strop.quantize(x, format=format)) + 1

        x = sample((6, 64), torch.float32)
        wanted = strop.fake_quantize(x, format=format) + 1
        backend = "inductor" if format == "int4" else "aot_eager"
        compiled = torch.compile(through, fullgraph=True, dynamic=True, backend=backend)
        assert_same_bits(compiled(x), wanted)
        assert_same_bits(compiled(x[:3]), strop.fake_quantize(x[:3], format=format) + 1)

        class Model(torch.nn.Module):
            def forward(self, x):
                return through(x)

        batch = {"x": {0: torch.export.Dim("batch")}}
        exported = torch.export.export(Model(), (x,), dynamic_shapes=batch)
        assert_same_bits(exported.module()(x), wanted)

    def test_holders_pass_through_compile(self):
        q = strop.quantize(sample((6, 64), torch.float32), format="int4", block_size=(1, 32))
        compiled = torch.compile(lambda q, x: x @ strop.dequantize(q).T, fullgraph=True)
        x = torch.randn(2, 64)
        torch.testing.assert_close(compiled(q, x), x @ strop.dequantize(q).T)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: strop.quantize(x, format="integer"), ValueError, "has no codes that could be"),
        (lambda x: strop.quantize(x.int()), TypeError, "strop.quantize: input has dtype int32"),
        (lambda x: strop.quantize(x, block_size=(1,)), ValueError, "block_size has 1 entries"),
        (lambda x: strop.quantize(x, rounding="stochastic"), ValueError, "needs a seed"),
        (lambda x: strop.quantize("x"), TypeError, "input is a str; a tensor is needed"),
        (lambda x: strop.choose_scale(x, format="int4", eps=-1.0), ValueError, "eps is -1"),
        (lambda x: strop.dequantize(x), TypeError, "q is a Tensor; a QuantizedTensor is needed"),
        (lambda x: strop.dequantize(strop.quantize(x), dtype=torch.int8), TypeError, "dtype is"),
        (lambda x: strop.dequantize(strop.quantize(x), out=x[:1]), ValueError, "out has shape"),
        (lambda x: strop.pack_bits(x, 4), TypeError, "codes has dtype float32; uint8 is needed"),
        (lambda x: strop.pack_bits(x.byte(), 9), ValueError, "bits is 9; 1 to 8 are possible"),
        (lambda x: strop.pack_bits(x.byte(), "4"), TypeError, "bits is a str; an int is needed"),
        (lambda x: strop.unpack_bits(x.byte(), 4, 9), ValueError, "9 codes of 4 bits take 5"),
        (lambda x: strop.unpack_bits(x.byte(), 4, -1), ValueError, "count is -1"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(torch.randn(6, 70))


def test_no_gradient_passes():
    x = torch.randn(6, 70, requires_grad=True)
    for format in ("int4", "nvfp4"):
        q = strop.quantize(x, format=format)
        assert not any(t.requires_grad for t in q.state_dict().values())
        assert not strop.dequantize(q).requires_grad
        assert not strop.choose_scale(x, format=format).scale.requires_grad


def test_scales_that_require_a_gradient_are_refused():
    q = strop.quantize(torch.randn(4), torch.tensor(0.5, requires_grad=True))
    with pytest.raises(RuntimeError, match="requires a gradient, which restoring codes does not"):
        strop.dequantize(q)
    with torch.no_grad():
        assert strop.dequantize(q).shape == (4,)
