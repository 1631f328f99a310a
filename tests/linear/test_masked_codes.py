"""Weights with a mask and a format: codes are kept, what they stand for is multiplied."""

import copy
import pickle

import pytest
import torch

import strop
from core.devices import assert_same_bits
from linear.problems import assert_close, generator, kept

FORMATS = ["int8", "uint4", "int3", "nf4", "fp8_e4m3fn", "mxfp4", "nvfp4"]
SHAPE = (45, 96)


def weight_and_mask(sparsity=0.7):
    return torch.randn(SHAPE, generator=generator()), kept(SHAPE, sparsity)


def made(format="int4", **options):
    return strop.pack_weight(*weight_and_mask(), format=format, **options)


def names(format):
    return (
        format if format in {f.name for f in strop.formats()} else format.replace("fp8", "float8")
    )


@pytest.mark.parametrize("format", list(map(names, FORMATS)))
class TestFormats:
    def test_is_what_quantize_gives(self, format):
        weight, mask = weight_and_mask()
        w = strop.pack_weight(weight, mask, format=format, symmetric="u" not in format[:1])
        block = w.quantized().block_size
        q = strop.quantize(
            weight * mask, format=format, block_size=block, symmetric="u" not in format[:1]
        )
        assert_same_bits(w.to_dense(), torch.where(mask, q.dequantize(), 0))
        assert w.format == q.format
        assert w.nnz == int(mask.sum())
        assert w.sparsity == pytest.approx(1 - w.nnz / mask.numel())

    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_product(self, format, plan):
        w = made(format, plan=plan)
        for rows in (1, 7, 40):
            x = torch.randn(rows, SHAPE[1], generator=generator(rows))
            assert_close(strop.packed_linear(x, w), x, w.to_dense())

    def test_saved(self, format):
        w = made(format, plan="packed")
        state = w.state_dict()
        assert {"bits", "codes", "scale", "shape", "plan"} <= set(state)
        bits = {f.name: f.bits for f in strop.formats()}[w.format]
        assert state["codes"].nbytes == -(-w.nnz * bits // 8)
        again = strop.PackedWeight.from_state_dict(state)
        x = torch.randn(9, SHAPE[1], generator=generator())
        for other in (again, copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
            assert_same_bits(strop.packed_linear(x, other), strop.packed_linear(x, w))
            assert other.format == w.format

    def test_of_a_quantized_tensor(self, format):
        weight, mask = weight_and_mask()
        block = None if names(format).startswith(("mx", "nv")) else (1, 32)
        q = strop.quantize(weight, format=format, block_size=block)
        w = strop.pack_weight(q, mask)
        assert_same_bits(w.to_dense(), torch.where(mask, q.dequantize(), 0))


class TestActivations:
    @pytest.mark.parametrize("activations", ["int8", "uint8"])
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_masked_weights_are_codes_of_zero(self, activations, symmetric):
        weight, mask = weight_and_mask()
        w = strop.pack_weight(
            weight, mask, format="uint8" if not symmetric else "int4", symmetric=symmetric,
            activations=activations,
        )  # fmt: skip
        assert not w.to_dense()[~mask].count_nonzero()
        x = torch.randn(5, SHAPE[1], generator=generator())
        zeroed = x.clone()
        q = strop.quantize(
            zeroed, format=activations, symmetric=activations == "int8", block_size=(1, -1)
        )
        assert_close(strop.packed_linear(x, w), q.dequantize(), w.to_dense())

    def test_a_zero_point_between_codes_is_refused(self):
        weight, mask = weight_and_mask()
        q = strop.quantize(
            weight, torch.full((45, 1), 20.0), torch.full((45, 1), 0.5), format="int8",
            block_size=(1, -1),
        )  # fmt: skip
        with pytest.raises(ValueError, match="strop.pack_weight: zero_point leaves no code"):
            strop.pack_weight(q, mask, activations="int8")
        assert strop.pack_weight(q, mask).nnz == int(mask.sum())


class TestOfIntegers:
    """Beside quantized activations: codes of what stayed are kept, and multiplied with zeros between them."""

    def test_saved(self):
        for format, share in (("int8", 0.3 + 0.125), ("int4", 0.15 + 0.125)):
            w = made(format, activations="int8")
            state = w.state_dict()
            held = sum(state[name].nbytes for name in ("bits", "codes"))
            assert held == pytest.approx(share * 45 * 96, rel=0.1)
            again = strop.PackedWeight.from_state_dict(state)
            x = torch.randn(9, SHAPE[1], generator=generator())
            for other in (again, copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
                assert_same_bits(strop.packed_linear(x, other), strop.packed_linear(x, w))
                assert (other.nnz, other.sparsity) == (w.nnz, w.sparsity)
                assert other.quantized().shape == SHAPE
            assert "pruned" in w.plan()

    def test_is_the_same_as_codes_with_zeros(self):
        weight, mask = weight_and_mask()
        w = strop.pack_weight(weight, mask, format="int8", activations="uint8")
        whole = strop.pack_weight(weight * mask, format="int8", activations="uint8")
        for rows in (1, 9, 40):
            x = torch.randn(rows, SHAPE[1], generator=generator(rows))
            assert_same_bits(strop.packed_linear(x, w), strop.packed_linear(x, whole))

    @pytest.mark.parametrize("compiled", [False, True])
    def test_gradient(self, compiled_product, compiled):
        w = made("uint4", symmetric=False, activations="int8")
        product = compiled_product if compiled else strop.packed_linear
        x = torch.randn(9, SHAPE[1], generator=generator()).requires_grad_()
        product(x, w).sum().backward()
        torch.testing.assert_close(x.grad, w.to_dense().sum(0).expand_as(x))

    def test_a_layer(self):
        layer = strop.nn.PackedLinear(made("int8", activations="int8"))
        x = torch.randn(9, SHAPE[1], generator=generator())
        before = layer(x)
        layer.scale.mul_(2)
        assert_same_bits(layer(x), 2 * before)
        layer.codes.zero_()
        assert not layer(x).count_nonzero()
        assert layer.to("meta")(x.to("meta")).shape == (9, 45)
        other = strop.nn.PackedLinear(made("int8", activations="int8"))
        state = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        weight = torch.zeros(SHAPE)
        layer = strop.nn.PackedLinear(
            strop.pack_weight(weight, weight == 0, format="int8", activations="int8")
        )
        layer.load_state_dict(state)
        assert_same_bits(layer(x), before)
        layer.to(torch.bfloat16)
        assert layer.packed.dtype == torch.bfloat16
        assert_same_bits(torch.export.export(layer, (x,)).module()(x), layer(x))

    def test_forged(self):
        w = made("int8", activations="int8")
        state = w.state_dict()
        cases = {
            "bits is torch.uint8 of shape": {"bits": state["bits"][:-1]},
            "bits is torch.int32": {"bits": state["bits"].int()},
            "codes is torch.uint8 of shape": {"codes": state["codes"][:-1]},
            "codes is torch.int8": {"codes": state["codes"].view(torch.int8)},
            "scale": {"scale": state["scale"][:-1]},
        }
        for text, forged in cases.items():
            with pytest.raises((ValueError, TypeError), match="strop.PackedWeight: .*" + text):
                strop.PackedWeight.from_state_dict(state | forged)


class TestFollows:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_writes_in_place(self, plan):
        w = made(plan=plan)
        x = torch.randn(9, SHAPE[1], generator=generator())
        before = strop.packed_linear(x, w)
        w.scale.mul_(2)
        assert_same_bits(strop.packed_linear(x, w), 2 * before)
        layer = strop.nn.PackedLinear(w)
        layer.scale.mul_(0.5)
        assert_same_bits(layer(x), before)
        layer.codes.zero_()
        assert not layer(x).count_nonzero()

    def test_casts_leave_codes(self):
        layer = strop.nn.PackedLinear(made())
        codes, scale = layer.codes.clone(), layer.scale.clone()
        layer.to(torch.bfloat16)
        assert torch.equal(layer.codes, codes)
        assert torch.equal(layer.scale, scale)
        assert layer.packed.dtype == layer.packed.input_dtype == torch.bfloat16
        x = torch.randn(9, SHAPE[1], generator=generator()).bfloat16()
        assert layer(x).dtype == torch.bfloat16
        assert layer.to("meta")(x.to("meta")).shape == (9, 45)

    def test_values_are_what_the_codes_say(self):
        w = made(plan="packed")
        expected = w.to_dense()
        for _ in range(2):
            w.values.mul_(2)
            assert_same_bits(w.to_dense(), expected)

    def test_moves(self):
        w = made()
        assert w.to("meta").device.type == "meta"
        assert w.to(copy=True).codes is not w.codes
        for dtype in (torch.float64, torch.int8):
            with pytest.raises(TypeError, match="strop.PackedWeight: dtype is torch"):
                w.to(dtype)
        again = w.to(torch.bfloat16)
        fresh = strop.pack_weight(again.quantized(), weight_and_mask()[1])
        assert again.methods == fresh.methods

    def test_compiled_and_exported(self):
        layer = strop.nn.PackedLinear(made(plan="packed"))
        x = torch.randn(9, SHAPE[1], generator=generator())
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert_same_bits(compiled(x), layer(x))
        assert_same_bits(torch.export.export(layer, (x,)).module()(x), layer(x))


class TestErrors:
    def test_of_packing(self):
        weight, mask = weight_and_mask()
        pack = strop.pack_weight
        cases = [
            (ValueError, "mask has shape", lambda: pack(weight, mask[:3], format="int8")),
            (TypeError, "mask has dtype", lambda: pack(weight, mask.byte(), format="int8")),
            (ValueError, "dtype is given", lambda: pack(weight, format="int8", dtype=weight.dtype)),
            (ValueError, "plan is 'dense'", lambda: pack(weight, format="int8", plan="dense")),
        ]
        for kind, text, call in cases:
            with pytest.raises(kind, match="strop.pack_weight: " + text):
                call()

    def test_of_a_state(self):
        state = made().state_dict()
        cases = {
            "codes is torch.uint8 of shape": {"codes": state["codes"][:-1]},
            "scale has shape": {"scale": state["scale"][:3]},
            "bits has|bits": {"bits": state["bits"][:3]},
        }
        for text, forged in cases.items():
            with pytest.raises((ValueError, TypeError), match=f"strop.PackedWeight: .*({text})"):
                strop.PackedWeight.from_state_dict(state | forged)
