"""The demo's contact sheet."""

import re
import sys

import pytest
from rich.console import Console

pytest.importorskip("matplotlib", reason="matplotlib, for the demo's pictures, is missing")

from examples.demo import augment, augment_picture
from examples.demo.parts import Context, name_missing, step


@pytest.fixture
def sheet(monkeypatch, tmp_path):
    monkeypatch.setattr(augment, "SIDE", 64)
    context = Context(None, tmp_path, Console(file=(tmp_path / "told").open("w"), width=200))
    return augment.rows(augment.samples(context))


def test_boxes_hold_what_the_masks_show(sheet):
    before, *filled, after = sheet
    assert len(filled) == len(augment.FILLS)
    for row in (before, after):
        for boxes, mask in zip(row.boxes, row.masks, strict=True):
            for number, (left, top, right, bottom) in enumerate(boxes.tolist(), 1):
                down, across = (mask[0] == number).nonzero().unbind(1)
                assert len(down)
                # A pixel's edges, half a pixel from its centre; nearest moves it by as much.
                assert left - 0.51 < across.min() < across.max() + 1 < right + 0.51
                assert top - 0.51 < down.min() < down.max() + 1 < bottom + 0.51


def test_fills_differ_outside_alone(sheet):
    constant, nearest = (sheet[1 + augment.FILLS.index(mode)] for mode in ("constant", "nearest"))
    for dark, filled in zip(constant.images, nearest.images, strict=True):
        assert 0.05 < (dark != filled).double().mean() < 0.8


def test_sheet_is_drawn(sheet, tmp_path):
    augment_picture.save(sheet[:2], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_without_photographs_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with (tmp_path / "told").open("w") as told:
        found = augment.samples(Context(None, tmp_path, Console(file=told, width=200)))
    assert "pip install scikit-image" in (tmp_path / "told").read_text()
    assert len(found) == len(augment.BOXES)


def test_steps_say_what_is_done_and_how_long_it_took(capsys):
    with step(Console(), "[1/4] quantize: weights", "[1/4] quantize"):
        print("inside")
    before, inside, after = capsys.readouterr().out.splitlines()
    assert before == "[1/4] quantize: weights ..."
    assert inside == "inside"
    assert re.fullmatch(r"\[1/4\] quantize took \d+\.\d s", after)


def test_missing_peers_are_named_once_in_one_line(capsys):
    name_missing(Console(width=200), [])
    name_missing(Console(width=200), ["kornia", "torchvision", "torchvision, one draw", "kornia"])
    assert capsys.readouterr().out == ("not installed, so not compared with: kornia, torchvision\n")
