"""quantization_report and what a report shows."""

import io
import json
import math
import sys

import numpy as np
import pytest
import rich.console
import torch
from torch import nn

import strop
from strop._core import report as _report
from strop._quantize.storage import stored_bytes

DEFAULTS = [
    "int8 per row",
    "int4 groups of 32",
    "float8_e4m3fn per row",
    "mxfp8",
    "mxfp6_e2m3",
    "mxfp4",
    "nvfp4",
    "nf4 groups of 64",
]


class Net(nn.Module):
    """Tied embeddings, a convolution, norms, an integer buffer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 72)
        self.conv = nn.Conv2d(6, 8, 3)
        self.norm = nn.LayerNorm(72)
        self.head = nn.Linear(72, 50)
        self.head.weight = self.embed.weight
        self.register_buffer("ids", torch.arange(8).reshape(2, 4))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net()


def by_name(report):
    return {weight["name"]: weight for weight in report.to_dict()["weights"]}


def plain(x, options):
    """SQNR in dB, by numpy in float64."""
    y = strop.fake_quantize(x, **options)
    x, y = (t.double().numpy() for t in (x, y))
    return 10 * math.log10(np.square(x).sum() / np.square(x - y).sum())


class TestFigures:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_against_a_plain_computation(self, dtype):
        weights = {"a": torch.randn(40, 100).to(dtype), "b": torch.randn(3, 70).to(dtype) * 5}
        options = {
            "rows": {"format": "int8", "block_size": (1, -1)},
            "groups": {"format": "uint4", "block_size": (1, 32), "symmetric": False},
            "tiles": {"format": torch.float8_e5m2, "block_size": (16, 16), "rounding": "floor"},
            "tensor": {"format": "int6", "block_size": None, "quant_min": -20},
            "noisy": {"format": "int3", "block_size": (1, 64), "rounding": "stochastic", "seed": 5},
            "recipe": {"format": strop.NumberFormat.get("mxfp4")},
        }
        before = {name: weight.clone() for name, weight in weights.items()}
        report = strop.quantization_report(weights, formats=options)
        assert all(torch.equal(weights[name], x) for name, x in before.items())
        for name, figures in by_name(report).items():
            assert figures["bytes"] == weights[name].nbytes
            for label, wanted in options.items():
                found = figures["formats"][label]
                assert found["sqnr_db"] == pytest.approx(plain(weights[name], wanted), rel=1e-9)
        totals = report.to_dict()["totals"]["formats"]["rows"]
        entries = list(by_name(report).values())
        signal = sum(entry["signal"] for entry in entries)
        noise = sum(entry["formats"]["rows"]["noise"] for entry in entries)
        assert totals["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise))
        assert totals["bytes"] == sum(entry["formats"]["rows"]["bytes"] for entry in entries)

    def test_a_tensor_of_many_pieces(self):
        x = torch.randn(3, 200_001)
        report = strop.quantization_report({"x": x.t().contiguous().t()}, formats=["int5"])
        found = by_name(report)["x"]["formats"]["int5 groups of 32"]["sqnr_db"]
        assert found == pytest.approx(plain(x, {"format": "int5", "block_size": (1, 32)}), rel=1e-9)

    def test_exact_and_not_finite(self):
        weights = {"zero": torch.zeros(4, 8), "nan": torch.full((4, 8), math.nan)}
        report = strop.quantization_report(weights, formats=["int8"])
        found = by_name(report)
        assert found["zero"]["formats"]["int8 per row"]["sqnr_db"] is None
        assert found["zero"]["formats"]["int8 per row"]["noise"] == 0
        assert found["nan"]["signal"] is None
        assert "exact" in str(report)
        assert "nan" in str(report).split()

    @pytest.mark.parametrize(
        ("format", "block", "options", "wanted"),
        [
            ("int4", (1, 32), {}, (5 * 50, 5 * 4 * 4, 0, 0)),
            ("int3", (1, 32), {}, (5 * 38, 5 * 4 * 4, 0, 0)),
            ("int16", (1, -1), {}, (5 * 200, 5 * 4, 0, 0)),
            ("int8", None, {"symmetric": False}, (500, 4, 4, 0)),
            ("uint4", (2, 64), {}, (5 * 50, 3 * 2 * 4, 3 * 2 * 4, 0)),
            ("int8", (-1, 1), {"dtype": torch.float64}, (500, 800, 0, 0)),
            ("float6_e2m3fn", (1, 32), {"dtype": torch.bfloat16}, (5 * 75, 5 * 4 * 4, 0, 0)),
            ("mxfp6_e2m3", None, {}, (5 * 75, 5 * 4, 0, 0)),
            ("nvfp4", None, {}, (5 * 50, 5 * 7, 0, 4)),
            ("nvfp4", None, {"dtype": torch.float64}, (5 * 50, 5 * 7, 0, 8)),
        ],
    )
    def test_bytes(self, format, block, options, wanted):
        size = stored_bytes((5, 100), strop.NumberFormat.get(format), block, **options)
        assert (size.codes, size.scales, size.zero_points, size.tensor_scale) == wanted
        assert size.total == sum(wanted)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_bytes_are_those_of_a_quantized_tensor(self, dtype):
        for format in (format for format in strop.formats() if format.bits):
            for shape in ((5, 100), (3, 2, 33), (0, 5), (7,), ()):
                for last in (None,) if format.block or not shape else (None, -1, 32):
                    block = None if last is None else (2, 2, 2)[: len(shape) - 1] + (last,)
                    for symmetric in (True, False) if format.is_integer else (True,):
                        options = {"block_size": block, "symmetric": symmetric}
                        q = strop.quantize(
                            torch.zeros(shape, dtype=dtype), format=format, **options
                        )
                        size = stored_bytes(shape, format, dtype=dtype, **options)
                        assert size.total == q.nbytes, (format, shape, options)

    def test_bytes_of_other_shapes(self):
        int4, mxfp4 = (strop.NumberFormat.get(name) for name in ("int4", "mxfp4"))
        assert stored_bytes((), int4).total == 1 + 4
        assert stored_bytes((), mxfp4).total == 1 + 1
        assert stored_bytes((2, 3, 5), int4, (1, 1, -1)).total == 6 * 3 + 6 * 4
        assert stored_bytes((0, 5), int4).total == 0
        with pytest.raises(ValueError, match="format integer have no fixed size"):
            stored_bytes((2,), strop.NumberFormat.get("integer"))


class TestModels:
    def test_what_is_a_weight(self, net):
        report = strop.quantization_report(net)
        found = report.to_dict()
        assert [weight["name"] for weight in found["weights"]] == ["embed.weight", "conv.weight"]
        left = {entry["name"]: entry["bytes"] for entry in found["left_alone"]}
        assert left == {
            "ids": 64,
            "conv.bias": 32,
            "norm.weight": 288,
            "norm.bias": 288,
            "head.bias": 200,
        }
        totals = found["totals"]
        assert totals["bytes"] == 4 * (50 * 72 + 8 * 54)
        assert totals["left_alone_bytes"] == 872
        for label in DEFAULTS:
            of = totals["formats"][label]
            assert of["ratio"] == totals["bytes"] / of["bytes"]
            assert of["model_ratio"] == totals["model_bytes"] / (of["bytes"] + 872)

    def test_tied_weights_are_counted_once_and_named(self, net):
        found = by_name(strop.quantization_report(net))
        assert found["embed.weight"]["tied"] == ["head.weight"]
        assert found["conv.weight"]["tied"] == []
        x = torch.randn(8, 9)
        report = strop.quantization_report({"a": x, "turned": x.t(), "copy": x.clone(), "b": x[0]})
        assert [w["tied"] for w in report.to_dict()["weights"]] == [["turned"], []]
        assert "= turned" in str(report)

    def test_state_dict_and_model_agree_and_stay_as_they_are(self, net):
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        parameters = dict(net.named_parameters(remove_duplicate=False))
        report = strop.quantization_report(net).to_dict()
        assert report == strop.quantization_report(net.state_dict()).to_dict()
        assert report["weights"] == strop.quantization_report(parameters).to_dict()["weights"]
        assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
        with torch.inference_mode():
            assert report == strop.quantization_report(net).to_dict()

    def test_more_than_two_dimensions(self):
        kernel, stack = torch.randn(8, 6, 3, 3), torch.randn(4, 6, 40)
        weights = {"kernel": kernel.to(memory_format=torch.channels_last), "stack": stack}
        found = by_name(strop.quantization_report(weights, formats=["int4"]))
        for name, matrix in (("kernel", kernel.flatten(1)), ("stack", stack.flatten(0, 1))):
            figures = found[name]["formats"]["int4 groups of 32"]
            assert found[name]["matrix"] == list(matrix.shape)
            assert figures["sqnr_db"] == pytest.approx(
                plain(matrix, {"format": "int4", "block_size": (1, 32)})
            )
            assert figures["code_bytes"] == matrix.shape[0] * math.ceil(matrix.shape[1] / 2)

    def test_other_floats_extra_state_and_nothing(self):
        weights = {
            "small": torch.zeros(4, 4, dtype=torch.float8_e4m3fn),
            "complex": torch.zeros(4, 4, dtype=torch.complex64),
            "sparse": torch.zeros(4, 4, dtype=torch.int32).to_sparse(),
            "module._extra_state": {"anything": 1},
        }
        found = strop.quantization_report(weights).to_dict()
        assert found["weights"] == []
        assert [entry["name"] for entry in found["left_alone"]] == ["small", "complex", "sparse"]
        assert str(strop.quantization_report({})) == ""
        empty = strop.quantization_report({"none": torch.zeros(0, 5), "nor": torch.zeros(5, 0)})
        assert empty.to_dict()["totals"]["formats"]["int8 per row"]["bytes"] == 0


class TestFormats:
    def test_default(self, net):
        found = strop.quantization_report(net).to_dict()
        assert [format["label"] for format in found["formats"]] == DEFAULTS
        assert all(list(weight["formats"]) == DEFAULTS for weight in found["weights"])

    def test_usual_blocks_and_labels(self):
        formats = ["int16", torch.uint8, "int7", "float4_e2m1fn", strop.NumberFormat.get("mxfp8")]
        pairs = [("int8", None), ("int8", (-1, 1)), ("int8", (128, 64)), (torch.int8, [1, 16])]
        weights = {"x": torch.randn(4, 64)}
        found = strop.quantization_report(weights, formats=[*formats, *pairs]).to_dict()
        assert {f["label"]: f["block_size"] for f in found["formats"]} == {
            "int16 per row": [1, -1],
            "uint8 per row": [1, -1],
            "int7 groups of 32": [1, 32],
            "float4_e2m1fn groups of 32": [1, 32],
            "mxfp8": [1, 32],
            "int8 per tensor": [-1, -1],
            "int8 per column": [-1, 1],
            "int8 blocks of 128x64": [128, 64],
            "int8 groups of 16": [1, 16],
        }

    def test_every_format_that_can_be_stored(self):
        names = [format.name for format in strop.formats() if format.bits]
        report = strop.quantization_report({"x": torch.randn(4, 130)}, formats=names)
        ratios = [of["ratio"] for of in report.to_dict()["totals"]["formats"].values()]
        assert len(ratios) == len(names)
        assert 1.9 < min(ratios) < max(ratios) < 11


W = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("kind", "text", "model", "formats"),
    [
        (TypeError, "model_or_state_dict is a list; a torch.nn.Module or a state dict", [W], None),
        (TypeError, "a key of the state dict is a int; a string is needed", {1: W}, None),
        (TypeError, "state dict entry 'm' is a dict; a tensor is needed", {"m": {}}, None),
        (TypeError, "'w' has layout torch.sparse_coo; torch.str", {"w": W.to_sparse()}, None),
        (ValueError, "'w' is on meta; there are kernels for cpu", {"w": W.to("meta")}, None),
        (ValueError, "'weight' is not initialised", nn.LazyLinear(3), None),
        (TypeError, "formats is a str; a sequence of formats, or a mapping", {}, "int8"),
        (ValueError, "formats is empty; one format at least is needed", {}, []),
        (ValueError, r"formats has 'int8 per row' 2 times", {}, ["int8", torch.int8]),
        (ValueError, r"formats\[1\]: format 'int9' is not known; known are", {}, ["int8", "int9"]),
        (TypeError, r"formats\[0\] is a float; a name, dtype, NumberFormat or \(", {}, [1.5]),
        (TypeError, r"formats\[1\] is a int; a name, dtype, NumberF", {}, ["int8", (1, 32)]),
        (ValueError, r"formats\[0\] has 1 entries; \(format, block_size\) has 2", {}, [("int8",)]),
        (ValueError, "block_size has 3 entries; give 2", {}, [("int8", (1, 1, 32))]),
        (ValueError, r"block_size\[1\] is 0; a positive size is needed", {}, [("int8", (1, 0))]),
        (TypeError, "block_size is a int; a tuple of ints or None", {}, [("int8", 32)]),
        (ValueError, "block_size is given; format mxfp4 has blocks", {}, [("mxfp4", (1, 32))]),
        (ValueError, "format integer is unbounded and needs a scale", {}, ["integer"]),
        (TypeError, "a key of formats is a int; a label, a string, is needed", {}, {4: {}}),
        (TypeError, r"formats\['a'\] is a str; a mapping of options", {}, {"a": "int8"}),
        (ValueError, r"formats\['a'\] lacks 'format'", {}, {"a": {}}),
        (ValueError, r"has 'out'; known are format, bl", {}, {"a": {"format": "int8", "out": W}}),
        (TypeError, "seed is a Tensor; an int", {}, {"a": {"format": "int8", "seed": W}}),
        (TypeError, r"'a'\]: symmetric is a str", {}, {"a": {"format": "int8", "symmetric": ""}}),
        (ValueError, "needs a seed", {}, {"a": {"format": "int8", "rounding": "stochastic"}}),
    ],
)
def test_errors(kind, text, model, formats):
    with pytest.raises(kind, match=rf"^strop\.quantization_report: .*{text}"):
        strop.quantization_report(model, formats=formats)


class TestReport:
    def test_dictionary_is_json(self, net):
        found = strop.quantization_report(net).to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        asymmetric = {"a": {"format": "uint4", "symmetric": False, "block_size": (1, 8)}}
        found = strop.quantization_report(net, formats=asymmetric).to_dict()
        assert found["formats"] == [
            {"label": "a", "format": "uint4", "block_size": [1, 8], "symmetric": False}
        ]
        json.dumps(found, allow_nan=False)

    def test_text_has_every_layer_and_format(self, net):
        report = strop.quantization_report(net)
        text = str(report)
        for name in ("embed.weight", "= head.weight", "conv.weight", "norm.weight", "head.bias"):
            assert name in text
        assert max(map(len, text.splitlines())) <= 120
        assert repr(report) == "<strop.Report: quantization of 2 weights in 8 formats>"
        # A heading is broken at spaces and underscores; each of its lines is in one column.
        heading = text[: text.index("───")].splitlines()[1:]
        ends = [i + len("row") for i in range(len(heading[-1])) if heading[-1].startswith("row", i)]
        column = [line[ends[-1] - 7 : ends[-1]].strip() for line in heading]
        assert "".join(column) in ("float8_e4m3fnper row", "float8_e4m3fnperrow")
        for label in DEFAULTS:
            for piece in label.replace("_", "_ ").split():
                assert piece in " ".join(heading), label

    def test_text_of_many_formats_and_long_names(self):
        name = "a_very_long_name." * 8 + "weight"
        names = [format.name for format in strop.formats() if format.bits]
        report = strop.quantization_report({name: torch.randn(4, 64), "[b]": W}, formats=names)
        text = str(report)
        lines = text.splitlines()
        assert len({len(line) for line in lines if "─" in line}) == 1
        assert "".join(line.split()[0] for line in lines if "a_very" in line).startswith("a_very")
        assert "[b]" in text  # no markup
        assert "…" not in text

    def test_alike_tensors_share_a_row(self):
        weights = {f"layer.{i}.bias": torch.zeros(3) for i in range(12)}
        text = str(strop.quantization_report(weights))
        assert "layer.*.bias" in text
        assert "12" in text.split()
        assert "Left alone: 12 tensors, 144 B" in text

    def test_rich_prints_it(self, net):
        console = rich.console.Console(width=90, record=True, file=io.StringIO())
        console.print(strop.quantization_report(net, formats=["int8", "nf4"]))
        assert "conv.weight" in console.export_text()

    def test_sizes(self):
        sizes = [0, 999, 1000, 9_994, 99_940, 999_499, 2_359_296, 45_900_000, 7_000_000_000]
        assert [_report.size_text(size) for size in sizes] == [
            *("0 B", "999 B", "1.00 kB", "9.99 kB", "99.9 kB", "999 kB"),
            *("2.36 MB", "45.9 MB", "7.00 GB"),
        ]


class TestPicture:
    @pytest.fixture(autouse=True)
    def _matplotlib(self):
        pytest.importorskip("matplotlib")

    def test_plot_writes_a_png(self, net, tmp_path):
        path = tmp_path / "new" / "report.png"
        assert strop.quantization_report(net).plot(path) == path
        assert path.read_bytes().startswith(b"\x89PNG")
        strop.quantization_report(net, formats=["int8"]).plot(str(tmp_path / "report.svg"))
        assert "<svg" in (tmp_path / "report.svg").read_text()

    def test_what_has_no_finite_ratio(self, tmp_path):
        for name, value in (("exact", 0.0), ("nan", math.nan)):
            report = strop.quantization_report({"w": torch.full((4, 4), value)})
            report.plot(tmp_path / f"{name}.png")
        with pytest.raises(ValueError, match=r"strop\.Report\.plot: the model has no weights"):
            strop.quantization_report({}).plot(tmp_path / "none.png")

    def test_labels_do_not_cover_each_other(self, tmp_path):
        from matplotlib.figure import Figure
        from matplotlib.text import Annotation, Text

        names = [format.name for format in strop.formats() if format.bits]
        report = strop.quantization_report({"w": torch.randn(64, 64)}, formats=names)
        figure = Figure(layout="constrained")
        report._draw(figure)
        figure.draw_without_rendering()
        labels = [c for c in figure.axes[0].get_children() if isinstance(c, Annotation)]
        assert len(labels) == len(names)
        boxes = [Text.get_window_extent(label).padded(-1) for label in labels]  # without lines
        for i, box in enumerate(boxes):
            for j in range(i):
                assert not box.overlaps(boxes[j]), (labels[i].get_text(), labels[j].get_text())

    def test_without_matplotlib(self, net, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"strop\.Report\.plot: matplotlib is needed"):
            strop.quantization_report(net, formats=["int8"]).plot(tmp_path / "report.png")


def test_progress_is_for_terminals(net, capsys, monkeypatch):
    strop.quantization_report(net)
    assert capsys.readouterr().err == ""
    from strop._quantize.report import report

    shown = []
    bar = report.tqdm
    monkeypatch.setattr(report, "tqdm", lambda **o: shown.append(o) or bar(**o, mininterval=0))
    strop.quantization_report(net, formats=["int8"])
    assert shown[0]["total"] == 50 * 72 + 8 * 54
    assert shown[0]["disable"] is None  # tqdm's word for: unless it is a terminal
