"""What is built is what was asked for now, not what a folder was once told."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CMAKE = "\n".join(
    path.read_text() for path in (ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake"))
)


def stated():
    """The options that each build by pip is told."""
    return dict(re.findall(r'^(STROP_\w+) = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M))


def commands(*arguments):
    """What make would run."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-n", "-B", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def folder(text):
    """The build folders of pip's commands."""
    return re.findall(r"-C build-dir=(\S+)", text)


def test_every_option_is_said_each_time():
    options = dict(re.findall(r"option\((STROP_\w+) .*? (ON|OFF)\)", CMAKE))
    options |= dict(re.findall(r'set\((STROP_\w+) "?([^\s"]*)"? CACHE', CMAKE))
    assert len(options) >= 6
    assert stated() == options


def test_the_readme_promises_what_wheels_are_built_for():
    names = [
        f"sm_{n.removesuffix('-real')}" for n in stated()["STROP_CUDA_ARCHITECTURES"].split(";")
    ]
    assert f"for {', '.join(names)} and PTX" in (ROOT / "README.md").read_text()


def test_a_wheel_is_built_in_a_folder_of_its_own_with_all_gpus():
    text = commands("wheel")
    test, wheel = folder(text)
    assert wheel != test
    made_anew = text.index(f"rm -rf {Path(wheel).parent}")
    assert made_anew < text.index(f"build-dir={wheel}")
    of_wheel = next(line for line in text.replace("\\\n", "").splitlines() if wheel in line)
    assert "ARCHITECTURES" not in of_wheel
    assert "check_wheel.py" in text


def test_another_compiler_has_another_folder():
    default = folder(commands("test"))
    assert folder(commands("test")) == default
    for other in ("CXX=clang++", "CXXFLAGS=-O1", "CUDA_HOME=/opt/cuda"):
        assert folder(commands("test", other)) != default
    assert "build/clang++-19" in commands("clang", "CLANGXX=clang++-19")
