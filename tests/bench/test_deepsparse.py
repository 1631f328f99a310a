"""The benchmark against DeepSparse, without DeepSparse: its environment, turns, results and tables."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmarks import against_deepsparse as driver
from benchmarks import deepsparse_environment as environment
from benchmarks import deepsparse_table, deepsparse_turns, pages

from strop._bench import measure, registry
from strop._bench.linear import cases as masked
from strop._bench.linear import model as masked_model

LINUX = ("Linux", "x86_64", {"avx2", "fma"})

# Speaks as deepsparse_peer.py does; FACTOR is what it multiplies results by.
STAND_IN = """
import json, sys
import numpy as np
print(json.dumps({"version": "1.8.0", "isa": "avx2"}), flush=True)
weight = None
for line in sys.stdin:
    request = json.loads(line)
    do, answer = request.pop("do"), {}
    if do == "layer":
        weight = np.load(request["weight"])
    elif do == "load":
        np.save(request["output"], FACTOR * np.load(request["input"]) @ weight.T)
    elif do == "run":
        answer["seconds"] = 0.25 * request["times"]
    else:
        print("what is", do, file=sys.stderr)
        sys.exit(3)
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def peer(tmp_path, request):
    script = tmp_path / "peer.py"
    script.write_text(f"FACTOR = {getattr(request, 'param', 1.0)}\n{STAND_IN}")
    with deepsparse_turns.Peer(sys.executable, script) as running:
        yield running


class TestEnvironment:
    @pytest.mark.parametrize(
        ("here", "told"),
        [
            (((3, 12, 1), *LINUX), "this is 3.12: name another"),
            (((3, 9, 18), *LINUX), "this is 3.9: name another"),
            (((3, 11, 7), "Darwin", "arm64", set()), "this is Darwin on arm64"),
            (((3, 11, 7), "Linux", "aarch64", set()), "this is Linux on aarch64"),
            (((3, 11, 7), "Linux", "x86_64", {"sse2"}), "needs AVX2"),
        ],
    )
    def test_what_stands_in_the_way(self, here, told):
        assert told in environment.obstacle(*here)

    def test_nothing_stands_in_the_way(self):
        assert environment.obstacle((3, 11, 7), *LINUX) is None

    def test_another_python_leaves_nothing_behind(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(environment.sys, "version_info", (3, 13, 0))
        assert environment.main([str(tmp_path / "venv")]) == 1
        assert "bench-deepsparse: DeepSparse 1.8.0 is installed under Python 3.11" in (
            capsys.readouterr().err
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("status", [0, 1])
    def test_the_folder_is_there_when_all_of_it_is(self, tmp_path, monkeypatch, status):
        def pip(command, **_):
            assert str(command[0]).endswith("unfinished/bin/python")
            assert command[-1] == environment.REQUIREMENTS
            return subprocess.CompletedProcess(command, status, "", "WARNING: a\nERROR: no wheel")

        def create(folder, *, with_pip):
            folder.mkdir()
            (folder / "new").touch()

        monkeypatch.setattr(environment.subprocess, "run", pip)
        monkeypatch.setattr(environment.venv, "create", create)
        folder = tmp_path / "venv"
        folder.mkdir()
        told = environment.make(folder)
        assert told == ("pip could not install DeepSparse: ERROR: no wheel" if status else None)
        assert list(tmp_path.iterdir()) == [folder]
        assert [path.name for path in folder.iterdir()] == ([] if status else ["new"])

    def test_without_it_the_driver_says_what_makes_it(self, tmp_path, monkeypatch, capsys):
        missing = str(tmp_path / "python")
        monkeypatch.setattr(sys, "argv", ["against_deepsparse", "--python", missing])
        assert driver.main() == 1
        assert "make bench-deepsparse makes it" in capsys.readouterr().err


class TestTurns:
    def test_contenders_alternate_and_medians_are_of_a_call(self):
        order = []

        def contender(name, seconds):
            def turn(times):
                order.append((name, times))
                return seconds * times

            return turn

        turns = {"strop": contender("strop", 1e-3), "DeepSparse": contender("DeepSparse", 1.0)}
        assert deepsparse_turns.medians(turns, 0.0) == {"strop": 1e-3, "DeepSparse": 1.0}
        measured = order[6:]  # (three turns of each show how many calls a turn has)
        assert measured == [("strop", 2), ("DeepSparse", 1)] * (len(measured) // 2)
        assert len(measured) >= 14

    def test_a_turn_warms_up_and_then_counts(self):
        called = []
        assert deepsparse_turns.repeated(lambda: called.append(1))(5) >= 0
        assert len(called) == 6

    def test_the_process_answers(self, peer):
        assert (peer.version, peer.isa) == ("1.8.0", "avx2")
        assert peer.run(4) == 1.0

    def test_the_process_is_not_told_of_this_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PYTHONPATH", "/nowhere")
        script = tmp_path / "tells.py"
        script.write_text(
            "import json, os\n"
            "told = [os.environ.get(k, '') for k in ('PYTHONPATH', 'NM_DISABLE_ANALYTICS')]\n"
            "print(json.dumps({'version': told[0], 'isa': told[1]}))\n"
        )
        with deepsparse_turns.Peer(sys.executable, script) as running:
            assert (running.version, running.isa) == ("", "1")

    def test_a_process_that_ends_says_why(self, peer):
        with pytest.raises(RuntimeError, match="ended with status 3:\nwhat is juggling"):
            peer.ask("juggling")


class TestMeasured:
    problem = staticmethod(lambda: driver.layer(4, 64, 32, 0.8, 1.6))

    def test_a_layer(self, peer, tmp_path):
        result = driver.measured(self.problem(), peer, tmp_path, 0.0)
        assert set(result.medians) == {"strop", "torch dense", "DeepSparse"}
        assert result.medians["DeepSparse"] == 0.25
        (bar,) = result.to_dict()["bars"]
        assert bar["kept"]
        assert bar["figure"] == pytest.approx(0.25 / result.medians["strop"])

    @pytest.mark.parametrize("peer", [1.01], indirect=True)
    def test_refuses_results_that_differ(self, peer, tmp_path):
        with pytest.raises(AssertionError, match="strop and DeepSparse differ by 9.9e-03"):
            driver.measured(self.problem(), peer, tmp_path, 0.0)

    def test_all_of_them_on_one_thread(self, tmp_path, monkeypatch):
        script = tmp_path / "peer.py"
        script.write_text(f"FACTOR = 1\n{STAND_IN}")
        monkeypatch.setattr(driver, "Peer", lambda _: deepsparse_turns.Peer(sys.executable, script))
        before = torch.get_num_threads()
        found = driver.measure_all({"a layer": self.problem}, tmp_path, 0.0)
        assert torch.get_num_threads() == before
        assert found["machine"]["deepsparse"] == "1.8.0"
        assert [result["name"] for result in found["results"]] == [self.problem().name]
        assert json.loads(json.dumps(found)) == found

    def test_every_case_has_a_name_of_its_own_and_the_promises(self):
        names = [name for name, _ in driver.problems()]
        assert len(set(names)) == len(names) == 36
        assert masked_model.model_name(16, 0.9) in names
        (make,) = (m for n, m in driver.problems() if n == masked.layer_name(128, 768, 3072, 0.5))
        problem = make()
        assert (problem.promised, tuple(problem.input.shape)) == (1.6, (128, 768))

    def test_avx2_starts_anew(self, monkeypatch):
        started = []
        monkeypatch.setattr(driver.os, "environ", {"HOME": "/"})
        monkeypatch.setattr(driver.os, "execv", lambda *command: started.append(command) or exit(7))
        monkeypatch.setattr(sys, "argv", ["x", "--isa", "avx2", "--python", sys.executable])
        with pytest.raises(SystemExit):
            driver.main()
        assert started[0][1][1:] == ["-m", "benchmarks.against_deepsparse", *sys.argv[1:]]
        assert driver.AVX2.items() <= driver.os.environ.items()


def test_a_whole_model_is_exported(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx, by which torch exports, is not installed")
    from strop._bench.linear import minilm

    model = minilm.Encoder(width=16, wide=32, heads=2, layers=1, words=50).eval()
    driver.export(model, torch.zeros(2, 8, dtype=torch.int64), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [each.name for each in graph.input] == ["tokens"]
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == [2, 8, 16]


def invented(name, deepsparse=3e-3):
    seconds = {"strop": 2e-3, "torch dense": 9e-3, "DeepSparse": deepsparse}
    bars = driver.Problem(name, 1.6, None, None, None).bars()
    told = measure.Result(registry.Case("deepsparse", name, dict, bars=bars), seconds)
    return told.to_dict()


FACTS = {"deepsparse": "1.8.0", "deepsparse isa": "avx512"}
LAYER = masked.layer_name(1, 4096, 4096, 0.8)


class TestResults:
    def test_merging_replaces_in_place_and_adds(self):
        old = {"machine": "then", "results": [invented("a"), invented("b"), invented("c")]}
        new = {"machine": "now", "results": [invented("d"), invented("b", 5e-3)]}
        found = driver.merged(old, new)
        assert found["machine"] == "now"
        assert [result["name"] for result in found["results"]] == ["a", "b", "c", "d"]
        assert found["results"][1]["seconds"]["DeepSparse"] == 5e-3
        assert driver.merged({}, new) == new

    def test_tables(self):
        machine = measure.machine() | FACTS
        results = [invented(LAYER), invented(masked_model.model_name(1, 0.8), 4e-3)]
        results.append(invented(masked_model.model_name(16, 0.9), 1.8e-3))
        told = deepsparse_table.tables({"machine": machine, "results": results})
        layers, models, where = told.split("\n\n")
        assert len(layers.splitlines()) == 2 + len(driver.LAYERS)
        line = "| 1 x 4096 by [4096, 4096] |  |  | 1.50 <sub>(1.6, missed)</sub> |  |  |"
        assert line in layers.splitlines()
        small = "2 ms | 9 ms |"
        assert models.splitlines()[2:] == [
            f"| MiniLM, 80% pruned, 1 x 128 tokens | {small} 4 ms | 2.00 <sub>(1.6)</sub> |",
            f"| MiniLM, 90% pruned, 16 x 128 tokens | {small} 1.8 ms | 0.90 <sub>(1.6, missed)</sub> |",
        ]
        assert "DeepSparse 1.8.0 (avx512)" in where

    def test_saved_beside_what_was_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pages, "RESULTS", tmp_path)
        written = []
        monkeypatch.setattr(pages, "write", lambda: written.append(pages.load()))
        model = masked_model.model_name(1, 0.9)
        for name in (LAYER, model):
            facts = measure.machine() | FACTS
            path = driver.save({"machine": facts, "results": [invented(name)]})
        assert path.name.endswith("-deepsparse.json")
        found = json.loads(path.read_text())
        assert [result["name"] for result in found["results"]] == [LAYER, model]
        assert written[-1] == {path.stem: found}
        assert f"| {model} | 2 ms | 9 ms | 3 ms |" in pages.beside_deepsparse(written[-1])
        assert "bench-deepsparse" in pages.beside_deepsparse({})


def test_pruned_layers_have_the_weights_of_the_other_benchmark(peer, tmp_path):
    weight = masked.pruned(32, 64, 0.8)
    problem = driver.layer(4, 64, 32, 0.8, 0)
    problem.write(peer, tmp_path / "model.onnx")
    assert np.array_equal(np.load(tmp_path / "model.weight.npy"), weight.numpy())
    assert problem.bars() == ()
