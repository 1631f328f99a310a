"""The holder of quantized tensors: kept, moved, refused where it is forged."""

import io
import pickle

import pytest
import torch

import strop
from core.devices import assert_same_bits
from quantize.problems import sample


class TestHolder:
    def test_state_dict_and_pickle(self):
        x = sample((6, 70), torch.bfloat16)
        for format in ("int4", "uint8", "mxfp4", "nvfp4"):
            q = strop.quantize(x, format=format)
            state = q.state_dict()
            facts = {k: getattr(q, k) for k in ("format", "block_size", "shape", "dtype")}
            again = strop.QuantizedTensor.from_state_dict(state, **facts)
            stream = io.BytesIO()
            torch.save(q, stream)
            stream.seek(0)
            for other in (again, pickle.loads(pickle.dumps(q)), torch.load(stream)):
                assert_same_bits(strop.dequantize(other), strop.dequantize(q))

    def test_to(self):
        q = strop.quantize(sample((6, 70), torch.float32), format="int4")
        half = q.to(torch.bfloat16)
        assert half.dtype == torch.bfloat16
        assert half.scale.dtype == torch.float32
        assert_same_bits(strop.dequantize(half), strop.dequantize(q, dtype=torch.bfloat16))
        assert q.to("cpu").device.type == "cpu"

        x = torch.ones(2, dtype=torch.float64)
        for moved in (
            q.to(x),
            q.to("cpu", torch.float64),
            q.to(dtype=torch.float64),
            q.cpu().to(x),
        ):
            assert moved.dtype == torch.float64
            assert moved.codes.data_ptr() == q.codes.data_ptr()
        for copied in (q.to("cpu", copy=True), q.to(torch.float32, False, True)):
            assert copied.codes.data_ptr() != q.codes.data_ptr()
            assert_same_bits(copied.dequantize(), q.dequantize())
        with pytest.raises(TypeError, match="dtype is torch.int8; a floating dtype"):
            q.to(torch.int8)

    def test_to_a_gpu(self):
        q = strop.quantize(sample((6, 70), torch.float32), format="int4")
        if torch.cuda.is_available():
            for moved in (q.cuda(), q.cuda(0), q.cuda(torch.device("cuda:0")), q.to("cuda")):
                assert moved.device == torch.device("cuda:0")
                assert_same_bits(moved.dequantize().cpu(), q.dequantize())
                assert moved.cpu().device.type == "cpu"
        else:
            with pytest.raises((RuntimeError, AssertionError), match=r"CUDA|cuda"):
                q.cuda()

    def test_dequantize(self):
        q = strop.quantize(sample((6, 70), torch.float32), format="int4")
        assert_same_bits(q.dequantize(), strop.dequantize(q))
        assert_same_bits(q.dequantize(torch.bfloat16), strop.dequantize(q, dtype=torch.bfloat16))
        out = torch.empty(6, 70)
        assert q.dequantize(out=out) is out
        assert_same_bits(out, q.dequantize())

    @pytest.mark.parametrize("dynamic", [False, True])
    @pytest.mark.parametrize("format", ["uint4", "nvfp4"])
    def test_compiled_without_graph_breaks(self, format, dynamic):
        q = strop.quantize(sample((6, 70), torch.float32), format=format)

        def call(x, q):
            moved = q.to("cpu", torch.bfloat16)
            facts = (q.nbytes, q.numel(), len(q), q.device, moved.dtype, q.cpu().format)
            state = q.state_dict()
            again = strop.QuantizedTensor.from_state_dict(
                state,
                format=strop.NumberFormat.get(q.format),
                block_size=q.block_size,
                shape=q.shape,
                dtype=q.dtype,
            )
            return (
                x + q.nbytes,
                facts,
                state,
                moved.dequantize(),
                again.to(torch.float64).dequantize(),
            )

        x = torch.ones(2)
        compiled = torch.compile(call, fullgraph=True, dynamic=dynamic)
        ours, wanted = compiled(x, q), call(x, q)
        assert ours[1] == wanted[1]
        assert torch.equal(ours[0], wanted[0])
        assert all(torch.equal(ours[2][name], tensor) for name, tensor in wanted[2].items())
        for a, b in zip(ours[3:], wanted[3:], strict=True):
            assert_same_bits(a, b)

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_compiled_masked_weights(self, dynamic):
        w = strop.pack_weight(torch.randn(8, 16) * (torch.rand(8, 16) > 0.8))

        def call(x, w):
            moved = w.cpu().to(torch.float32)
            return x + w.nbytes + w.nnz, w.state_dict(), moved.to_dense()

        compiled = torch.compile(call, fullgraph=True, dynamic=dynamic)
        ours, wanted = (f(torch.ones(2), w) for f in (compiled, call))
        assert torch.equal(ours[0], wanted[0])
        assert all(torch.equal(ours[1][name], tensor) for name, tensor in wanted[1].items())
        assert torch.equal(ours[2], wanted[2])

    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_sent_to_another_process(self, method):
        q = strop.quantize(sample((6, 70), torch.float32), format="uint4", block_size=(1, 32))
        context = torch.multiprocessing.get_context(method)
        queue = context.Queue()
        # (of this tensor nobody else keeps the scales: a temporary would be gone before it is read)
        process = context.Process(target=_restored, args=(q, strop.nn.Held(q[:2]), queue))
        process.start()
        found = queue.get(timeout=120)
        assert_same_bits(torch.from_numpy(found[0]), q.dequantize())
        assert_same_bits(torch.from_numpy(found[1]), q.dequantize()[:2])
        process.join()
        assert process.exitcode == 0

    def test_nbytes(self):
        x = torch.randn(64, 128)
        assert strop.quantize(x, format="int4", block_size=(1, 32)).nbytes == 64 * (64 + 4 * 4)
        assert strop.quantize(x, format="mxfp4").nbytes == 64 * (64 + 4)
        assert strop.quantize(x, format="nvfp4").nbytes == 64 * (64 + 8) + 4

    def test_formats_of_torch(self):
        q = strop.quantize(torch.randn(6, 70), format=torch.int4)
        fields = {name: getattr(q, name) for name in q.__dataclass_fields__}
        for format in (torch.int4, strop.NumberFormat.get("int4")):
            again = strop.QuantizedTensor(**{**fields, "format": format})
            assert again.format == "int4"
            assert_same_bits(again.dequantize(), q.dequantize())

    def test_forged_pickles_are_refused(self):
        q = strop.quantize(torch.randn(6, 70), format="int4")
        object.__setattr__(q, "shape", (6, 100))
        with pytest.raises(ValueError, match="codes has shape"):
            pickle.loads(pickle.dumps(q))

    @pytest.mark.parametrize(
        ("change", "error", "text"),
        [
            ({"codes": torch.zeros(6, 34, dtype=torch.uint8)}, ValueError, "codes has shape"),
            ({"codes": torch.zeros(6, 35)}, TypeError, "codes has dtype torch.float32; uint8"),
            ({"scale": torch.ones(6, 4)}, ValueError, "scale has shape"),
            ({"scale": torch.ones(6, 3).half()}, TypeError, "scale has dtype torch.float16"),
            ({"zero_point": torch.ones(5, 3).int()}, ValueError, "zero_point has shape"),
            ({"tensor_scale": torch.tensor(1.0)}, ValueError, "tensor_scale is given"),
            ({"format": "nvfp4"}, ValueError, "block_size is given; format nvfp4"),
            ({"format": "integer"}, ValueError, "has no codes that could be stored"),
            ({"block_size": (1,)}, ValueError, "block_size has 1 entries for a 2-D"),
            ({"block_size": (1, 0)}, ValueError, "sizes are 1 or more"),
            ({"shape": (6, 71)}, ValueError, "codes has shape"),
            ({"dtype": torch.int8}, TypeError, "dtype is torch.int8"),
        ],
    )
    def test_forged_ones_are_refused(self, change, error, text):
        q = strop.quantize(torch.randn(6, 70), format="int4", block_size=(1, 32))
        fields = {name: getattr(q, name) for name in q.__dataclass_fields__}
        with pytest.raises(error, match=text):
            strop.QuantizedTensor(**(fields | change))


def _restored(q, held, queue):
    queue.put((q.dequantize().numpy(), held().dequantize().numpy()))
