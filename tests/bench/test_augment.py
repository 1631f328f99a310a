"""The augment family's benchmark: its data, its peers' agreement with strop, its tables and pictures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import __main__ as suite
from benchmarks import against_torchvision, pages, tables

import strop
from strop import cli
from strop._bench import measure, registry
from strop._bench.augment import cases as augment
from strop._bench.augment import peers as augment_peers
from strop._bench.augment import photographs as data
from strop._bench.augment import picture as augment_picture
from strop._bench.case import Case

PNG = b"\x89PNG"
CASES = list(registry.cases("augment"))


def result(name, seconds, images=64, bars=(), extra=None):
    return {
        "family": "augment", "name": name, "seconds": seconds, "gb_per_s": None,
        "images": images, "extra_kib": extra, "bars": list(bars), "missing": {},
    }  # fmt: skip


def bar(label, figure, limit, kept=True):
    return {"label": label, "figure": figure, "limit": limit, "kept": kept}


class TestData:
    def test_photographs_differ_and_are_the_same_on_every_run(self):
        pytest.importorskip("skimage")
        x = data.photographs(16, 32)
        assert x.shape == (16, 3, 32, 32)
        assert x.dtype == torch.uint8
        assert len(x.flatten(1).unique(dim=0)) == 16
        assert torch.equal(x, data.photographs.__wrapped__(16, 32))
        assert x.float().std() > 40  # no flat pictures

    def test_patterns_stand_in_where_there_are_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage", None)
        with pytest.warns(UserWarning, match="skimage.*: patterns stand in for photographs"):
            x = data.photographs.__wrapped__(9, 32)
        assert x.shape == (9, 3, 32, 32)
        assert x.float().std() > 20

    def test_labels(self):
        assert set(data.masks(4, 64).unique().tolist()) <= {0, 1, 2, 3}
        assert data.greys(4, 64).shape == (4, 1, 64, 64)

    @pytest.mark.parametrize("size", [None, (224, 192)])
    def test_matrices_are_within_their_ranges(self, size):
        m = data.drawn_matrices(500, 256, 128, size).double()
        down, across = size or (256, 128)
        linear = m[:, :, :2] * torch.tensor([across / 128, down / 256])
        zoom = linear.det().abs()
        least, most = data.ZOOM
        sheared = math.cos(math.radians(data.SHEAR))
        assert least**2 * sheared - 1e-6 < zoom.min() < 0.75
        assert 1.3 < zoom.max() < most**2 + 1e-6
        assert 0.3 < (linear.det() < 0).double().mean() < 0.7  # flips
        middle = torch.tensor([(across - 1) / 2, (down - 1) / 2, 1.0], dtype=torch.float64)
        shift = (m @ middle - torch.tensor([63.5, 127.5])) / torch.tensor([128, 256])
        assert 0.18 < shift.abs().amax() < data.SHIFT + 1e-6

    def test_every_second_one_is_flipped(self):
        x = data.photographs(4, 32)
        y = strop.augment_images(x, data.flips(4, 32), dtype=torch.uint8)
        assert torch.equal(y[::2], x[::2])
        assert torch.equal(y[1::2], x[1::2].flip(-1))


class TestPeersMakeTheSamePicture:
    SIZES = ((256, 256), (224, 224))

    def ours(self, size, **options):
        x, m = data.photographs(8), data.drawn_matrices(8, size=size)
        return x, m, strop.augment_images(x, m, size=size, **options)

    @pytest.mark.parametrize("size", SIZES)
    def test_opencv_to_a_grey_level(self, size):
        pytest.importorskip("cv2")
        x, m, y = self.ours(size, dtype=torch.uint8)
        off = (augment_peers.opencv(x, m, size)().int() - y.int()).abs()
        assert off.max() <= 1
        assert off.double().mean() < 0.25

    def test_opencv_nearest(self):
        pytest.importorskip("cv2")
        labels, m = data.masks(8), data.drawn_matrices(8)
        theirs = augment_peers.opencv(labels, m, (256, 256), nearest=True)()
        same = (theirs == strop.warp_masks(labels, m)).double().mean()
        assert same > 0.999  # where a position is a half, the two round to unlike sides

    @pytest.mark.parametrize("size", SIZES)
    def test_opencv_then_torch(self, size):
        pytest.importorskip("cv2")
        x, m, y = self.ours(size, mean=data.MEAN, std=data.STD)
        off = (augment_peers.opencv_then_torch(x, m, size)() - y).abs().max()
        assert off < 1.01 / (255 * min(data.STD))  # a grey level

    @pytest.mark.parametrize("size", SIZES)
    def test_torch_sampler(self, size):
        x, m, y = self.ours(size, mean=data.MEAN, std=data.STD)
        off = (augment_peers.torch_sampler(x, m, size)() - y).abs()
        assert off.max() < 0.15 / (255 * min(data.STD))  # its positions are float32

    def test_kornia(self):
        pytest.importorskip("kornia", reason="kornia is in the dependency group bench")
        from kornia.geometry.transform import warp_affine

        x, m, y = self.ours((256, 256), dtype=torch.uint8)
        last = torch.tensor([[[0.0, 0, 1]]]).expand(8, 1, 3)
        forward = torch.linalg.inv(torch.cat([m, last], 1))[:, :2]
        theirs = warp_affine(x.float(), forward, (256, 256), align_corners=True)
        assert (theirs - y.float()).abs().max() < 0.75

    def test_albumentationsx(self):
        albumentations = pytest.importorskip(
            "albumentations", reason="AlbumentationsX (AGPL) is in the dependency group bench"
        )
        x = data.photographs(8)
        turn = albumentations.Affine(rotate=(15, 15), scale=(1.1, 1.1), p=1.0)
        theirs = [turn(image=one.permute(1, 2, 0).contiguous().numpy())["image"] for one in x]
        theirs = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in theirs])
        found = [
            (theirs.int() - strop.augment_images(x, m.repeat(8, 1, 1), dtype=torch.uint8).int())
            for m in (strop.affine_matrix(sign * 15, (0, 0), 1.1, 0, 256, 256) for sign in (1, -1))
        ]
        assert min(int(off.abs().max()) for off in found) <= 1  # (degrees to one side or the other)

    def test_what_draws_its_own_gives_a_batch(self):
        pytest.importorskip("kornia", reason="kornia is in the dependency group bench")
        x = data.photographs(2, 64)
        assert augment_peers.kornia(x)().shape == x.shape

    def test_torchvision_is_refused_where_it_differs(self, monkeypatch):
        def theirs(x, *arguments):
            return against_torchvision.strops(x, *arguments) + off

        monkeypatch.setattr(against_torchvision, "torchvisions", theirs)
        off = 1e-4
        against_torchvision.check_agreement()
        off = 0.01
        with pytest.raises(AssertionError, match="strop and torchvision differ by 1.0e-02"):
            against_torchvision.check_agreement()

    def test_without_torchvision_the_make_target_is_named(self, monkeypatch, capsys):
        monkeypatch.setattr(against_torchvision, "MODULES", ("torch", "no_such_module"))
        assert against_torchvision.main() == 1
        assert "no_such_module not installed here: make bench-torchvision" in (
            capsys.readouterr().err
        )


class TestCases:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_ours_run_without_a_peer(self, case):
        if case.name.startswith("one image"):
            pytest.skip("250 MB: benchmarks measure it")
        for name, make in case.contenders().items():
            if name == "strop" or name in augment.VARIANTS:
                found = make()()
                assert isinstance(found, torch.Tensor)
                assert len(found) == data.COUNT

    def test_every_bar_has_what_it_needs(self):
        for case in CASES:
            medians = dict.fromkeys(case.contenders(), 1.0)
            for promise in case.bars:
                assert medians.keys() >= set(promise.needs), case.name
                assert math.isfinite(promise.figure(medians))

    def test_the_share_of_copy(self):
        (case,) = (case for case in CASES if case.name == augment.NORMALISED)
        (share,) = case.bars
        # A byte is read and four are written, where copy_ reads and writes four.
        assert share.figure({"strop": 5.0, "copy_": 8.0}) == pytest.approx(1.0)


class TestShown:
    def measured(self):
        ratio = bar("x AlbumentationsX", 12.0, 16, kept=False)
        whole = {"strop": 0.004, "kornia": 0.2, "AlbumentationsX": 0.048}
        copied = [bar("of copy_'s rate", 0.87, 0.8)]
        threads = {"strop": 0.004, "strop, 2 threads": 0.0021}
        results = [
            result(augment.WHOLE, whole, bars=[ratio, bar("KiB extra", 700, 2048)], extra=700),
            result(augment.NORMALISED, {"strop": 0.002, "copy_": 0.0025}, bars=copied),
            result("warp_points", {"strop": 2.5e-5}, 0, [bar("us a call", 25.0, 40)]),
            result("threads", threads, bars=[bar("x one thread", 1.9, 1.8)]),
            result("uint8 output", {"strop": 0.004, "float32 output": 0.005}),
        ]
        return {"machine": measure.machine(), "results": results}

    def test_table(self):
        lines = tables.rows(self.measured()["results"]).splitlines()
        assert lines[2:] == [
            f"| {augment.WHOLE} | 16,000 a second |  | 700 | kornia 320 a second | 50.00x |",
            "|  |  |  |  | AlbumentationsX 1,333 a second | 12.00x <sub>(16, missed)</sub> |",
            f"| {augment.NORMALISED} | 32,000 a second |  |  | copy_ 25,600 a second | 1.25x |",
            "|  |  |  |  |  | 0.87 of copy_'s rate <sub>(0.8)</sub> |",
            "| warp_points | 25 us |  |  |  | 25 us a call <sub>(40)</sub> |",
            "| threads | 16,000 a second |  |  |  | 1.9 x one thread <sub>(1.8)</sub> |",
            "| uint8 output | 16,000 a second |  |  | float32 output 12,800 a second | 1.25x |",
        ]

    def test_memory_that_was_not_promised_is_named(self):
        bars = [bar("KiB extra", 3000, 2048, kept=False)]
        told = tables.rows([result("copy", {"strop": 0.004}, bars=bars, extra=3000)])
        assert "3e+03 KiB extra <sub>(2048, missed)</sub>" in told

    def test_torchvision_table(self):
        assert "bench-torchvision" in pages.beside_torchvision({})
        measured = self.measured()
        measured["machine"]["peers"] = {"torchvision": "0.29.1"}
        told = pages.beside_torchvision({"here-torchvision": measured, "here": self.measured()})
        assert told.count("; torchvision 0.29.1.") == 1
        assert "warp_points" not in told

    def test_rates_are_of_strop_and_the_peers(self):
        first, *_, last = self.measured()["results"]
        assert list(augment_picture.rates(first)) == ["strop", "AlbumentationsX", "kornia"]
        assert augment_picture.rates(last) == {"strop": 16000}

    def test_picture(self, tmp_path):
        augment_picture.save(self.measured(), tmp_path / "new" / "speed.png")
        assert (tmp_path / "new" / "speed.png").read_bytes().startswith(PNG)

    def test_one_family_anew_keeps_the_others(self, tmp_path):
        path = tmp_path / "x.json"
        new = self.measured()
        assert suite.merged(path, new, "augment") == new
        old = [result("old", {"strop": 1}), result("kept", {"strop": 1}) | {"family": "masked"}]
        path.write_text(json.dumps({"machine": {}, "results": old}))
        found = suite.merged(path, new, "augment")
        assert [one["name"] for one in found["results"][:2]] == ["kept", augment.WHOLE]
        assert suite.merged(path, new, None) == new

    def test_command_line(self, capsys, tmp_path, monkeypatch):
        whole = {"strop": lambda: int, "AlbumentationsX": lambda: int}
        case = Case("augment", augment.WHOLE, lambda: whole, images=64)
        monkeypatch.setattr(registry, "cases", lambda family: [case])
        assert cli.main(["bench", "augment", "--json", "--plot", str(tmp_path)]) == 0
        (found,) = json.loads(capsys.readouterr().out)["results"]
        assert found["images"] == 64
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["bench-augment-speed.png", "bench-augment.png"]


def test_scratch_is_bounded_whatever_the_image():
    # In a process of its own, whose peak nothing else has raised. What a first call of any size takes for
    # good (tables, code that is read from its file) is not counted.
    code = """
import torch, strop
from strop._bench.measure import extra_kib
from strop._bench.augment.photographs import drawn_matrices
torch.set_num_threads(1)
m = drawn_matrices(1, 4096, 4096)
x = torch.full((1, 3, 4096, 4096), 7, dtype=torch.uint8)
inputs = [x, x.contiguous(memory_format=torch.channels_last), x.float()]
for dtype in (torch.float32, torch.uint8):
    out = torch.full((1, 3, 4096, 4096), 1, dtype=dtype)
    for i in inputs:
        for mode in ("constant", "reflect"):
            strop.augment_images(i[:, :, :8, :8], m, fill_mode=mode, dtype=dtype)
            print(extra_kib(lambda: strop.augment_images(i, m, fill_mode=mode, dtype=dtype, out=out)))
print(extra_kib(lambda: strop.warp_masks(x, m, out=out)))
"""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the kernel does not reset the peak of memory: {error}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = [int(n) for n in done.stdout.split()]
    assert len(grown) == 13
    assert max(grown) < 2048  # KiB
