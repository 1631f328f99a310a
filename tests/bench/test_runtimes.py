"""The benchmark beside ONNX Runtime and OpenVINO, without them: requests, results and tables."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks import against_runtimes as driver
from benchmarks import pages, runtimes_table

from strop._bench import measure
from strop._bench.linear import minilm

# Speaks as runtimes_peer.py does, of a model that is its own result; FACTOR is what it multiplies it by.
STAND_IN = """
import json, sys
import numpy as np
print(json.dumps({"version": "ONNX Runtime 1, OpenVINO 2", "isa": ""}), flush=True)
loaded = {}
for line in sys.stdin:
    request = json.loads(line)
    do, answer = request.pop("do"), {}
    if do == "abilities":
        answer = {"bfloat16": True, "sparse": True}
    elif do == "load":
        loaded[request["name"]] = request["runtime"], request["options"]
        np.save(request["output"], FACTOR * np.load(request["model"]))
    elif do == "run":
        runtime, options = loaded[request["name"]]
        answer["seconds"] = {"onnxruntime": 0.5, "openvino": 0.25}[runtime] * request["times"]
    else:
        print("what is", do, file=sys.stderr)
        sys.exit(3)
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def script(tmp_path, request):
    path = tmp_path / "peer.py"
    path.write_text(f"FACTOR = float('{getattr(request, 'param', 1.0)}')\n{STAND_IN}")
    return path


@pytest.fixture
def peer(script):
    with driver.Runtimes(sys.executable, script) as running:
        yield running


@pytest.fixture
def problem(monkeypatch):
    def export(model, tokens, path):
        with path.open("wb") as file, torch.inference_mode():
            np.save(file, model(tokens).numpy())

    monkeypatch.setattr(driver, "export", export)
    monkeypatch.setattr(torch, "compile", lambda model: model)
    return lambda sparsity: driver.Problem(1, sparsity, small)


def small(sparsity):
    torch.manual_seed(3)
    model = minilm.Encoder(width=16, wide=32, heads=2, layers=1).eval()
    minilm.prune(model, sparsity)
    return model


class TestPeer:
    def test_the_process_answers_of_each_model(self, peer, tmp_path):
        np.save(tmp_path / "m.npy", np.ones(3))
        files = {"model": str(tmp_path / "m.npy"), "input": "", "output": str(tmp_path / "y.npy")}
        for name, runtime in (("a", "onnxruntime"), ("b", "openvino")):
            peer.ask("load", name=name, runtime=runtime, options={}, **files)
        assert (peer.turn("a")(2), peer.turn("b")(2)) == (1.0, 0.5)
        assert peer.version == "ONNX Runtime 1, OpenVINO 2"

    def test_a_process_that_ends_says_why(self, peer):
        told = "the runtimes' process ended with status 3:\nwhat is juggling"
        with pytest.raises(RuntimeError, match=told):
            peer.ask("juggling")

    def test_models_are_kept_by_name(self, monkeypatch, tmp_path):
        for name in ("onnxruntime", "openvino"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace())
        script = importlib.import_module("benchmarks.runtimes_peer")
        called = []

        def by(model, x, options):
            return lambda: called.append((model, options)) or 2 * x

        monkeypatch.setitem(script.RUNTIMES, "openvino", by)
        np.save(tmp_path / "x.npy", np.arange(3))
        runner = script.Runner()
        files = {"input": str(tmp_path / "x.npy"), "output": str(tmp_path / "y.npy")}
        runner.load("a", "openvino", {"THREADS": 1}, "a.onnx", **files)
        runner.load("b", "openvino", {}, "b.onnx", **files)
        assert np.load(tmp_path / "y.npy").tolist() == [0, 2, 4]
        called.clear()
        assert runner.run("a", 3) >= 0
        assert called == [("a.onnx", {"THREADS": 1})] * 4
        with pytest.raises(ValueError, match="no options here"):
            script.by_onnxruntime("a.onnx", np.arange(3), {"THREADS": 1})


class TestRequests:
    def test_pruned_models_are_asked_for_with_their_zeros(self):
        able = {"bfloat16": True, "sparse": True}
        assert [*driver.theirs(0.8, able)] == [*runtimes_table.PEERS[2:]]
        options = driver.theirs(0.8, able)[runtimes_table.SPARSE]["options"]
        assert options["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] < 0.8
        assert options["INFERENCE_PRECISION_HINT"] == "f32"

    def test_what_a_processor_or_a_model_lacks_is_not_asked_for(self):
        able = {"bfloat16": False, "sparse": True}
        assert [*driver.theirs(0.0, able)] == ["ONNX Runtime", "OpenVINO"]
        assert runtimes_table.SPARSE not in driver.theirs(0.8, {"bfloat16": True, "sparse": False})


class TestMeasured:
    @pytest.mark.parametrize("sparsity", [0.0, 0.9])
    def test_a_model(self, problem, peer, tmp_path, sparsity):
        result = driver.measured(problem(sparsity), peer, tmp_path, 0.0)
        missing = set() if sparsity else {runtimes_table.SPARSE}
        assert set(result.medians) == {"strop", *runtimes_table.PEERS} - missing
        assert result.medians["ONNX Runtime"] == 0.5
        assert result.medians[runtimes_table.BFLOAT16] == 0.25

    @pytest.mark.parametrize("script", [1.01, float("nan")], indirect=True)
    def test_refuses_results_that_differ(self, problem, peer, tmp_path):
        with pytest.raises(AssertionError, match="ONNX Runtime and torch differ by (1.0e-02|nan)"):
            driver.measured(problem(0.9), peer, tmp_path, 0.0)

    def test_fewer_bits_may_differ_more(self):
        found = torch.tensor([1.0, 1.01])
        for sparsity, contender in ((0.0, "strop"), (0.9, runtimes_table.BFLOAT16)):
            driver.check(driver.Problem(1, sparsity), contender, found, torch.ones(2))
        with pytest.raises(AssertionError, match="90% pruned, 1 x 128 tokens: strop and torch"):
            driver.check(driver.Problem(1, 0.9), "strop", found, torch.ones(2))

    def test_all_of_them_on_one_thread(self, problem, script, tmp_path, monkeypatch):
        start = driver.Runtimes
        monkeypatch.setattr(driver, "Runtimes", lambda python: start(python, script))
        before = torch.get_num_threads()
        found = driver.measure_all([problem(0.9)], sys.executable, 0.0)
        assert torch.get_num_threads() == before
        assert found["machine"]["runtimes"] == "ONNX Runtime 1, OpenVINO 2"
        assert [result["name"] for result in found["results"]] == [problem(0.9).name()]
        assert json.loads(json.dumps(found)) == found

    def test_without_the_environment_it_says_what_makes_it(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["against_runtimes", "--python", str(tmp_path / "none")])
        assert driver.main() == 1
        assert "make bench-runtimes makes it" in capsys.readouterr().err


def invented(batch, sparsity, **more):
    seconds = {"strop": 2e-3, "torch": 9e-3, "torch.compile": 8e-3, "ONNX Runtime": 5e-3, **more}
    case = measure.Case("runtimes", runtimes_table.case_name(batch, sparsity), dict)
    return measure.Result(case, seconds).to_dict()


def invented_file(*results):
    facts = {"isa": "avx512", "runtimes": "ONNX Runtime 1, OpenVINO 2"}
    return {"machine": measure.machine() | facts, "results": list(results)}


class TestResults:
    def test_table(self):
        sparse = {runtimes_table.SPARSE: 1e-3}
        told = runtimes_table.tables(invented_file(invented(16, 0.9, **sparse), invented(1, 0.0)))
        table, where = told.split("\n\n")
        small = "2 ms | 9 ms, 4.50x | 8 ms, 4.00x | 5 ms, 2.50x |"
        assert table.splitlines() == [
            "| whole model | strop | torch | torch.compile | ONNX Runtime | OpenVINO, sparse weights |",
            "|---|---:|---:|---:|---:|---:|",
            f"| MiniLM, not pruned, 1 x 128 tokens, strop in int8 | {small}  |",
            f"| MiniLM, 90% pruned, 16 x 128 tokens | {small} 1 ms, 0.50x |",
        ]
        assert "beside ONNX Runtime 1, OpenVINO 2." in where
        assert "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE` at 0.7" in where
        assert "bfloat16" not in where

    def test_saved_beside_what_was_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pages, "RESULTS", tmp_path)
        written = []
        monkeypatch.setattr(pages, "write", lambda: written.append(pages.load()))
        for sparsity in (0.0, 0.9):
            path = driver.save(invented_file(invented(1, sparsity)))
        assert path.name.endswith("-avx512-runtimes.json")
        found = json.loads(path.read_text())
        assert [result["name"] for result in found["results"]] == [
            runtimes_table.case_name(1, sparsity) for sparsity in (0.0, 0.9)
        ]
        assert written[-1] == {path.stem: found}
        assert "| MiniLM, 90% pruned, 1 x 128 tokens | 2 ms |" in pages.beside_runtimes(written[-1])
        assert "bench-runtimes" in pages.beside_runtimes({})
