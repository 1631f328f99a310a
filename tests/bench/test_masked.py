"""How the masked family's benchmark is shown: figures, pictures, the README's tables."""

import json
import math

import pytest
from benchmarks import headline, pages, tables

from strop import cli
from strop._bench import measure, registry
from strop._bench.case import Case
from strop._bench.linear import cases as masked
from strop._bench.linear import dense
from strop._bench.linear import figures as masked_figures
from strop._bench.linear import picture as masked_picture
from strop._linear import plans

PNG = b"\x89PNG"


def invented():
    """As masked_figures.measured has it, of a machine that nobody has."""
    panel = {"place": "cached", "ratios": [[0.9, 33.0], [1.0, 4.2]]}
    panels = [
        panel | {"shape": [64, 64], "ways": [["prepacked", "mask"], ["dense", "pairs"]]},
        panel | {"shape": [96, 64], "ways": [["quads", "quads"], ["pairs", "pairs"]]},
    ]
    point = {"shape": [64, 64], "flop": 4096, "bytes": 2048, "seconds": 1e-6}
    points = [
        point | {"rows": rows, "place": place, "way": way, "sparsity": sparsity}
        for rows, place, way in ((1, "cached", "mask"), (8, "streamed", "quads"))
        for sparsity in (0.5, 0.9)
    ]
    return {
        "machine": measure.machine(),
        "speedups": {"sparsities": [0.5, 0.9], "rows": [1, 32], "panels": panels},
        "roofline": {"points": points, "memory_bytes_per_s": 1e10, "peak_flop_per_s": 5e10},
    }


def paths(folder):
    return folder / "new" / "heatmap.png", folder / "new" / "roofline.png"


class TestFigures:
    def test_speedups(self):
        found = masked_figures.speedups([(64, 64)], [0.5, 0.9], [1, 32], seconds=0.0)
        assert json.loads(json.dumps(found)) == found
        (panel,) = found["panels"]
        assert panel["place"] in plans.PLACES
        assert all(len(row) == 2 and min(row) > 0 for row in panel["ratios"])
        assert {way for row in panel["ways"] for way in row} <= set(masked_picture._WAYS)

    def test_roofline(self):
        found = masked_figures.roofline([(8, 64, 32)], [0.5], seconds=0.0, memory_bytes=1 << 20)
        assert json.loads(json.dumps(found)) == found
        (point,) = found["points"]
        kept = int((masked.pruned(32, 64, 0.5) != 0).sum())
        assert point["flop"] == 2 * 8 * kept
        assert point["bytes"] >= 4 * kept
        assert found["memory_bytes_per_s"] > 1e8
        assert found["peak_flop_per_s"] > 1e8

    def test_threads_are_as_they_were(self):
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            masked_figures.speedups([(8, 8)], [0.5], [1], seconds=0.0)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)


class TestPictures:
    def test_of_what_was_invented(self, tmp_path):
        masked_picture.save(invented(), *paths(tmp_path))
        for path in paths(tmp_path):
            assert path.read_bytes().startswith(PNG)

    def test_of_what_was_measured(self, tmp_path):
        figures = {
            "machine": measure.machine(),
            "speedups": masked_figures.speedups([(64, 64)], [0.0, 0.9], [1, 8], seconds=0.0),
            "roofline": masked_figures.roofline([(1, 64, 64)], [0.9], 0.0, memory_bytes=1 << 20),
        }
        masked_picture.save(figures, *paths(tmp_path))
        for path in paths(tmp_path):
            assert path.read_bytes().startswith(PNG)

    def test_every_cell_says_its_number_and_its_way(self):
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        masked_picture.draw_heatmap(invented(), figure)
        told = [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]
        assert told[0] == ["0.90", "o", "33", "m", "1.0", "d", "4.2", "p"]
        assert told[1][1::2] == ["q", "q", "p", "p"]
        ticks = [text.get_text() for text in figure.axes[2].get_yticklabels()]
        assert {"0.5x", "1x", "2x", "32x"} <= set(ticks)

    def test_ceilings_say_how_they_were_measured(self):
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        masked_picture.draw_roofline(invented(), figure)
        told = " ".join(text.get_text() for text in figure.axes[0].texts)
        for part in ("10.0 GB/s", "50 GFLOP/s", "1024x1024", "1 row", "8 rows"):
            assert part in told


def result(family, name, seconds, bars=()):
    return {"family": family, "name": name, "seconds": seconds, "gb_per_s": None, "bars": bars}


class TestTables:
    def measured(self):
        (rows, k, n), promised = next(iter(masked.SHAPES.items()))
        name = masked.layer_name(rows, k, n, masked.SPARSITIES[0])
        least = promised[0]
        over = {"label": "x best dense", "figure": least, "limit": least, "kept": True}
        bars = [{"label": "ms", "figure": 61.27, "limit": 80, "kept": True}]
        results = [
            result("quantize", "codes", {"strop": 1e-3, "copy_": 2e-3}),
            result("masked", "prune_mask", {"strop": 1e-3, "torch": 17e-3}),
            result("masked", name, {"strop": 1e-3, "torch dense": least * 1e-3}, [over]),
            result("masked", "packing", {"strop": 61.27e-3}, bars),
        ]
        return {"machine": measure.machine(), "results": results}

    def test_a_line_a_shape(self):
        every = {"here": self.measured()}
        title, table, rest, told = pages.sections("masked", every, tables.linear).split("\n\n")
        assert title.startswith("### Masked on ")
        lines = table.splitlines()
        assert len(lines) == 2 + len(masked.SHAPES)
        (rows, k, n), promised = next(iter(masked.SHAPES.items()))
        cell = f"{promised[0]:.2g} <sub>({promised[0]:g})</sub>"
        assert lines[2] == f"| {rows} x {k} by [{n}, {k}] | {cell} |  |  |  |  |"
        assert lines[0].count("pruned") == len(masked.SPARSITIES)
        assert told.startswith("One thread, torch ")
        assert "| packing | 61.3 ms |  |  |  | 61.3 ms <sub>(80)</sub> |" in rest
        assert "prune_mask" not in rest

    def test_the_faster_dense_layer_is_the_rival(self):
        seconds = {"strop": 1e-3, "torch dense": 3e-3, "oneDNN prepacked": 2e-3}
        assert dense.faster_than_dense(1.5).figure(seconds) == 2
        bar = {"label": "x best dense", "figure": 2.0, "limit": 1.5, "kept": True}
        assert tables.dense_ratio(result("masked", "", seconds, [bar])) == "2p <sub>(1.5)</sub>"
        row = tables.rows([result("masked", "a", seconds, [bar])])
        assert "torch dense 3 ms | 3.00x |" in row
        assert "oneDNN prepacked 2 ms | 2.00x <sub>(1.5)</sub> |" in row
        del seconds["oneDNN prepacked"]
        assert dense.faster_than_dense(1.5).figure(seconds) == 3

    def test_each_family_has_its_own_table(self):
        every = {"here": self.measured()}
        pruning, quantization = (pages.sections(name, every) for name in ("prune", "quantize"))
        assert "| prune_mask | 1 ms |  |  | torch 17 ms | 17.00x |" in pruning
        assert "codes" in quantization
        assert "packing" not in pruning + quantization

    def test_a_place_for_a_table(self):
        text = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter"
        assert pages.replaced(text, "a", "new") == text.replace("old", "new")
        with pytest.raises(SystemExit, match="no place <!-- b:begin -->"):
            pages.replaced(text, "b", "new")

    def test_the_best_peer_is_no_bound(self):
        seconds = {"strop": 1, "strop, float32 values": 2, "copy_": 3, "torch": 5, "torchao": 4}
        assert headline.best_peer(seconds) == "torchao"


class TestCommandLine:
    @pytest.fixture
    def cheap(self):
        weight = masked.pruned(64, 64, 0.9)
        contenders = masked.contenders(8, weight, ("torch dense",))
        return Case("masked", "a cheap one", contenders)

    def test_one_case(self, capsys, tmp_path):
        only = masked.layer_name(1, 768, 3072, 0.95)
        arguments = ["bench", "masked", "--only", only, "--json", "--plot", str(tmp_path)]
        assert cli.main(arguments) == 0
        captured = capsys.readouterr()
        (found,) = json.loads(captured.out)["results"]
        assert found["name"] == only
        assert math.isfinite(found["seconds"]["torch dense"])
        assert [path.name for path in tmp_path.iterdir()] == ["bench-masked.png"]
        assert captured.err.count("plot: ") == 1

    def test_the_whole_family_has_three_pictures(self, capsys, tmp_path, monkeypatch, cheap):
        monkeypatch.setattr(registry, "cases", lambda family: [cheap])
        monkeypatch.setattr(masked_figures, "measured", invented)
        assert cli.main(["bench", "masked", "--plot", str(tmp_path)]) == 0
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == [
            "bench-masked-heatmap.png",
            "bench-masked-roofline.png",
            "bench-masked.png",
        ]
        err = capsys.readouterr().err
        assert all(f"plot: {tmp_path / name}" in err for name in names)
