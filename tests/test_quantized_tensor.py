"""The holder of quantized tensors: kept, moved, refused where it is forged."""

import io
import pickle

import pytest
import torch

import strop
from conftest import assert_same_bits
from quantize_problems import sample


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

    def test_nbytes(self):
        x = torch.randn(64, 128)
        assert strop.quantize(x, format="int4", block_size=(1, 32)).nbytes == 64 * (64 + 4 * 4)
        assert strop.quantize(x, format="mxfp4").nbytes == 64 * (64 + 4)
        assert strop.quantize(x, format="nvfp4").nbytes == 64 * (64 + 8) + 4

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
