"""What masked layers cost on this machine: measured, kept, used, and left alone where it is off."""

import json
import multiprocessing
import os

import pytest
import torch

import strop
from linear.problems import pruned
from strop import cli
from strop._linear import machine_costs, planning, plans

FLOAT = torch.float32


def costs(nonzeros=0.1, side=512, dtype=FLOAT):
    return plans.Costs((side, side), round(nonzeros * side * side), dtype, dtype)


def written(path, **factors):
    """A file of factors, the same for every place and class; 1 for others."""
    row = [1.0] * len(plans.CLASSES)
    groups = {
        "32 bits": {
            m: dict.fromkeys(plans.PLACES, [factors.get(m, 1.0)] * len(row))
            for m in ("mask", "quads", "pairs", "dense")
        }
    }
    path.write_text(json.dumps(groups))
    return groups


class TestMeasured:
    def test_is_a_factor_for_each_method_place_and_class(self):
        found = machine_costs.measured("32 bits", seconds=0.3)
        assert {"mask", "quads", "dense"} <= set(found)
        assert machine_costs._is_whole(found)
        assert all(
            0.01 < f < 1000 for places in found.values() for row in places.values() for f in row
        )

    def test_what_is_not_timed_is_that_of_the_place_or_class_before(self):
        ratios = {("dense", "near", 1): [2.0, 8.0], ("dense", "cached", 0): [3.0]}
        found = machine_costs._filled(ratios)["dense"]
        assert found["near"] == [1.0] + [4.0] * 6
        assert found["cached"] == [3.0] + [4.0] * 6
        assert found["streamed"] == found["cached"]

    def test_takes_no_longer_than_it_may(self):
        import time

        start = time.perf_counter()
        machine_costs.measured("32 bits", seconds=0.0)
        assert time.perf_counter() - start < 1

    def test_whatever_mode_the_caller_is_in(self):
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            found = machine_costs.measured("32 bits", seconds=0.05)
        assert found["dense"]

    def test_threads_are_as_they_were(self):
        before = torch.get_num_threads()
        machine_costs.measured("16 bits", seconds=0.0)
        assert torch.get_num_threads() == before


class TestKept:
    def test_once(self, kept, monkeypatch):
        calls = []

        def measured(group):
            calls.append(group)
            return {"dense": dict.fromkeys(plans.PLACES, [2.0] * 7)}

        monkeypatch.setattr(machine_costs, "measured", measured)
        for _ in range(2):
            assert machine_costs.factor("dense", "near", 3) == 2
            machine_costs._known.clear()  # as a new process
        assert calls == ["32 bits"]
        machine_costs.factors("16 bits")
        assert calls == ["32 bits", "16 bits"]
        assert set(json.loads(kept.read_text())) == {"32 bits", "16 bits"}
        strop.tune(force=True)
        assert calls == ["32 bits", "16 bits", *machine_costs.GROUPS]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "[" * 100000,
            '{"32 bits": {"dense": {"near": [NaN]}}}',
            '{"32 bits": {"dense": {"near": [1]}}}',
        ],
    )
    def test_a_damaged_file_is_measured_anew(self, kept, monkeypatch, text):
        kept.write_text(text)
        new = {"dense": dict.fromkeys(plans.PLACES, [3.0] * 7)}
        monkeypatch.setattr(machine_costs, "measured", lambda group: new)
        assert machine_costs.factor("dense", "cached", 0) == 3
        assert json.loads(kept.read_text()) == {"32 bits": new}

    def test_in_memory_where_it_cannot_be_written(self, monkeypatch):
        monkeypatch.setenv("STROP_TUNE", "/proc/nothing/costs.json")
        monkeypatch.setattr(machine_costs, "_known", {})
        new = {"dense": dict.fromkeys(plans.PLACES, [3.0] * 7)}
        monkeypatch.setattr(machine_costs, "measured", lambda group: new)
        assert machine_costs.factor("dense", "cached", 0) == 3
        assert strop.tune().to_dict()["path"] is None

    def test_one_writer(self, kept):
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=_measure_once, args=(kept,)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [p.exitcode for p in processes] == [0] * 4
        assert kept.with_suffix(".count").read_text() == "x"

    def test_by_machine(self, monkeypatch, tmp_path):
        monkeypatch.delenv("STROP_TUNE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        path = machine_costs.path()
        assert path.parent == tmp_path / "strop"
        assert strop.isa() in path.name
        assert strop.__version__ in path.name


def _measure_once(kept):
    def measured(group):
        with kept.with_suffix(".count").open("a") as file:
            file.write("x")
        return {"dense": dict.fromkeys(plans.PLACES, [2.0] * 7)}

    machine_costs.measured = measured
    os._exit(0 if machine_costs.factor("dense", "near", 0) == 2 else 1)


class TestUsed:
    def test_plans_go_by_it(self, kept):
        written(kept, dense=100.0)
        found = planning.planned_by_costs(costs(0.9), range(7), packed_only=False)
        assert plans.NUMBER_OF["dense"] not in found
        written(kept, dense=0.01)
        machine_costs._known.clear()
        found = planning.planned_by_costs(costs(0.05), range(7), packed_only=False)
        assert set(found) == {plans.NUMBER_OF["dense"]}
        assert "costs of this machine" in strop.pack_weight(pruned((64, 64), 0.9)).plan()

    def test_off(self, monkeypatch):
        monkeypatch.setenv("STROP_TUNE", "off")
        monkeypatch.setattr(machine_costs, "measured", None)  # which would fail
        assert machine_costs.factor("dense", "near", 0) == 1
        assert planning.predicted(costs(), "dense", 2) == costs().by_table("dense", 2)
        assert "table of" in strop.pack_weight(pruned((64, 64), 0.9)).plan()

    def test_values_of_16_bits_have_figures_of_their_own(self):
        short = plans.Costs((64, 64), 400, torch.bfloat16, FLOAT)
        assert (short.key("quads"), short.key("dense")) == ("quads-16", "dense")
        assert costs(dtype=torch.float16).key("dense") == "dense-float16"

    def test_a_plan_of_another_machine_is_made_anew(self, monkeypatch):
        auto, forced = (
            strop.pack_weight(pruned((64, 64), 0.9), plan=p) for p in ("auto", "packed")
        )
        states = [w.state_dict() for w in (auto, forced)]
        monkeypatch.setattr(plans, "machine_key", lambda: "another")
        dense = (plans.NUMBER_OF["dense"],) * 7
        monkeypatch.setattr(planning, "planned_by_costs", lambda *_, **__: dense)
        again = [strop.PackedWeight.from_state_dict(state) for state in states]
        assert again[0].methods == dense
        assert again[1].methods == forced.methods


class TestTold:
    def test_report(self, kept, tmp_path):
        written(kept, dense=2.5)
        groups = json.loads(kept.read_text())
        kept.write_text(json.dumps(groups | {"16 bits": groups["32 bits"]}))
        report = strop.tune()
        told = report.to_dict()
        assert told["path"] == str(kept)
        assert told["factors"]["32 bits"]["dense"]["near"][0] == 2.5
        assert "2.50" in str(report)
        assert "129 and more" in str(report)
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        assert report.plot(tmp_path / "costs.png").stat().st_size > 1000

    def test_nothing_to_draw_where_it_is_off(self, tmp_path):
        with pytest.raises(ValueError, match="nothing was measured"):
            strop.tune().plot(tmp_path / "costs.png")

    def test_command(self, kept, capsys):
        written(kept)
        groups = json.loads(kept.read_text())
        kept.write_text(json.dumps(groups | {"16 bits": groups["32 bits"]}))
        assert cli.main(["tune", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == str(kept)
        assert cli.main(["tune"]) == 0
        assert "quads" in capsys.readouterr().out

    def test_errors(self):
        with pytest.raises(TypeError, match="strop.tune: force is"):
            strop.tune(force="yes")


class TestFewestForms:
    """Methods that read the same form of the weight, where they are nearly as fast."""

    def chosen(self, *classes):
        """Of the times of each class, the fastest first."""
        taken = dict(enumerate(classes))
        fastest = {number: next(iter(times)) for number, times in taken.items()}
        return list(planning._in_fewest_forms(fastest, taken).values())

    def test_one_form_where_it_is_nearly_as_fast(self):
        one = {"quads": 1.0, "mask": 1.2}
        many = {"pairs": 1.0, "quads": 1.05}
        assert self.chosen(one, many, many) == ["quads"] * 3
        assert self.chosen(one, {"pairs": 1.0, "quads": 1.2}) == ["quads", "pairs"]

    def test_bits_and_values_as_they_are_take_nothing(self):
        few, more = {"quads": 1.0}, {"pairs": 1.0, "quads": 1.5}
        assert self.chosen({"mask": 1.0, "quads": 1.08}, few, more) == ["mask", "quads", "pairs"]
        assert self.chosen({"mask": 1.0, "quads": 1.08}, few) == ["mask", "quads"]
        assert self.chosen({"quads": 1.0, "mask": 1.08}) == ["mask"]

    def test_dense_gives_way_only_where_nothing_is_lost(self):
        many = {"quads": 1.0, "dense": 2.0}
        assert self.chosen({"dense": 1.0, "quads": 1.05}, many) == ["dense", "quads"]
        assert self.chosen({"prepacked": 1.0, "quads": 1.01}, many) == ["quads", "quads"]

    def test_a_class_that_only_one_form_suits(self):
        assert self.chosen({"quads": 1.0}, {"pairs": 1.0}) == ["quads", "pairs"]

    def test_the_forms_of_a_weight(self):
        w = strop.pack_weight(pruned((3072, 768), 0.9))
        assert len({plans.FORM_OF[name] for name in w.method_names()}) == 1
        assert w.nbytes < 0.45 * 4 * 3072 * 768
