"""Where things are: folders, files, namespaces, what includes what, and what only some files may have."""

import importlib.util
import re
import subprocess
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import lizard
import pytest

import strop

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FOLDERS = ("csrc", "python", "tests", "benchmarks", "examples", "cmake", "docs")
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".py"}
BUILT = {".whl", ".so", ".o", ".a", ".pyc", ".gz", ".zip"}
FILES = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix != ".so" and "__pycache__" not in path.parts
]
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in SUFFIXES)
FAMILIES = ("quantize", "prune", "linear", "augment")
# What a family may include beside core and itself.
DEPENDS = {
    "quantize": {"formats"},
    "prune": set(),
    "linear": {"formats", "prune", "quantize"},
    "augment": set(),
}
# What depends on the processor's instructions, and is not in a room for them.
ASSEMBLY = {"core/cuda/intrinsics.cuh", "core/simd/vector.h"}
CONVERSIONS = {"to_float", "float_bits", "bits_float"}  # between a dtype and its value


def place_of(path):
    """A source's folder in csrc, and its room there, if it has one."""
    parts = path.relative_to(CSRC).parts
    return parts[0], parts[1] if len(parts) > 2 else ""


def code_of(path):
    return re.sub(r"//.*", "", path.read_text())


def included(path, brackets='""'):
    first, last = brackets
    return re.findall(rf"#include {first}([^{last}]+){last}", path.read_text())


each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CSRC)))


class TestFiles:
    def test_nothing_that_was_built_or_fetched_is_tracked(self):
        if not (ROOT / ".git").exists():
            pytest.skip("this is no git checkout")
        listed = ["git", "-C", str(ROOT), "ls-files", "-z"]
        tracked = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / name for name in tracked.split("\0") if name]
        assert len(paths) > 100
        assert [p.name for p in paths if p.suffix in BUILT] == []
        assert [p.name for p in paths if p.is_file() and p.stat().st_size > 1 << 20] == []

    def test_folders_are_small(self):
        counts = Counter(path.parent for path in FILES if "results" not in path.parts)
        assert {str(f.relative_to(ROOT)): n for f, n in counts.items() if n > 24} == {}

    def test_names_and_lengths(self):
        assert len(FILES) > 300
        for path in FILES:
            assert not re.match(r"(utils?|common|helpers?|misc)(\.|$)", path.name), path
            if path.suffix in SUFFIXES:
                assert len(path.read_text().splitlines()) < 400, path

    def test_functions_are_short_and_take_few_arguments(self):
        found = [
            function
            for path in FILES
            if path.suffix in SUFFIXES
            for function in lizard.analyze_file(str(path)).function_list
        ]
        assert len(found) > 300
        for function in found:
            where = f"{function.filename}:{function.start_line}: {function.name}"
            if function.filename.endswith(".py"):
                assert function.nloc < 60, where  # its docstring does not count
            else:
                assert function.length < 60, where
                assert len(function.parameters) < 7, where

    def test_source_lists_are_spelled_out_and_name_each_source_once(self):
        lists = [
            ROOT / "CMakeLists.txt",
            *(ROOT / "cmake").glob("*"),
            *CSRC.rglob("CMakeLists.txt"),
        ]
        named = Counter()
        for path in lists:
            text = path.read_text()
            assert "file(GLOB" not in text
            folder = path.parent.relative_to(ROOT)
            for name in re.findall(r"[\w/]+\.(?:cpp|cu)\b", text):
                named[str(folder / name)] += 1
        both = {"csrc/core/torch/tensor_arguments.cpp"}  # in each library of ops
        sources = {str(p.relative_to(ROOT)) for p in SOURCES if p.suffix in {".cpp", ".cu"}}
        assert {name for name in sources if named[name] != 1} == both


class TestRooms:
    @each_source
    def test_includes_obey_the_room(self, path):
        folder, room = place_of(path)
        for name in included(path, "<>"):
            if re.match(r"(torch|ATen|c10)/", name):
                assert room == "torch", name
            if name.startswith("pybind11/") or name == "Python.h":
                assert room == "numpy" or folder == "library", name
            if name.startswith("cuda"):
                assert room in {"cuda", "torch"}, name
        for name in included(path):
            other, *rest = name.split("/")
            theirs = rest[0] if len(rest) > 1 else ""
            if theirs in {"torch", "numpy"} and folder != "library":
                assert room == theirs or theirs == "numpy" == room, name
            if theirs == "cuda":
                assert room in {"cuda", "torch"} or path.name == "number_grid.h", name
            if theirs == "simd":
                assert room == "simd", name
            if room == "reference":
                assert theirs in {"", "reference"}, name

    @each_source
    def test_families_keep_to_themselves(self, path):
        folder, _ = place_of(path)
        others = {name.split("/")[0] for name in included(path)} - {folder, "core"}
        if folder in FAMILIES:
            assert others <= DEPENDS[folder]
        elif folder == "core":
            assert not others
        else:
            assert others <= {"formats": set(), "library": {"library"}}[folder]

    def test_families_depend_on_each_other_in_no_circle(self):
        order = TopologicalSorter({f: DEPENDS[f] & set(FAMILIES) for f in FAMILIES}).static_order()
        assert set(order) == set(FAMILIES)

    @each_source
    def test_namespaces_say_the_place(self, path):
        folder, room = place_of(path)
        opened = set(re.findall(r"^namespace (strop[\w:]*) \{", path.read_text(), re.M))
        if folder in FAMILIES:
            own = f"strop::{folder}"
            rooms = {
                "simd": "simd::STROP_ISA",
                "cpu": "cpu",
                "cuda": "cuda",
                "reference": "reference",
            }
            allowed = {own, f"{own}::{rooms[room]}"} if room in rooms else {own}
        else:
            allowed = {"strop", "strop::simd::STROP_ISA", "strop::cuda"}
        assert opened <= allowed

    @each_source
    def test_what_is_of_one_processor_is_in_its_room(self, path):
        folder, room = place_of(path)
        text = code_of(path)
        if str(path.relative_to(CSRC)) not in ASSEMBLY:
            assert not re.search(r"\basm\b", text)
        if room == "simd":
            return
        assert not re.search(
            r"\b_mm\d*_|\bv(ld|st|add|cvt|dup|mul)\w*q_\w+\(|immintrin|arm_neon", text
        )
        assert not re.search(
            r"#\s*(el)?if.*(__AVX|__SSE|__F16C|__FMA|__BMI|__ARM|NEON|__x86|__aarch)", text
        )

    def test_the_oracle_calls_no_arithmetic_of_the_kernels(self):
        shared = {
            name
            for path in SOURCES
            if place_of(path)[1] == "" and path.suffix == ".h"
            for name in re.findall(r"STROP_INLINE[^;{(]*?(\w+)\(", code_of(path))
        }
        assert {"fake_quantize_value", "packed_byte", "magnitude_key"} <= shared
        for path in (p for p in SOURCES if place_of(p)[1] == "reference"):
            text = code_of(path)
            own = set(re.findall(r"^\s*(?:[\w:<>]+ )+\**(\w+)\(|auto (\w+) = \[", text, re.M))
            own = {name for pair in own for name in pair}
            for name in shared - CONVERSIONS - own - {"call"}:  # call: FromFloat's
                assert not re.search(rf"(?<![\w.:]){name}(<[^<>()]*>)?\(", text), (path, name)

    @pytest.mark.parametrize(
        "path",
        [p for p in SOURCES if p.parent.name == "cuda"],
        ids=lambda p: str(p.relative_to(CSRC)),
    )
    def test_cuda_kernels_keep_to_what_runs_on_a_cpu_as_well(self, path):
        text = code_of(path)
        words = ["<<<", "__constant__", "__managed__"]
        if path.name != "intrinsics.cuh":  # in whose place a CPU has another file
            words.append("extern __shared__")
        for word in words:
            assert word not in text
        # A variable, not a function: its declaration ends before any parenthesis.
        assert not re.search(r"__device__[^(){};]*[;=]", text)

    def test_cuda_kernels_run_on_a_cpu_wherever_they_are_compiled(self):
        built = bool(strop.build_info()["cuda_architectures"])
        found = importlib.util.find_spec("strop._cuda_host") is not None
        assert built == found, "install with -C cmake.define.STROP_CUDA_HOST=ON, as make does"

    def test_no_inline_code_is_shared_between_instruction_sets(self):
        objects = list(ROOT.glob("build/test-*/csrc/*/CMakeFiles/strop_*_*.dir/**/*.o"))
        if not objects:
            pytest.skip("no build folder here: an installed strop has no objects to look at")
        for path in objects:
            family, isa = re.search(r"strop_([a-z]+)_(\w+)\.dir", str(path)).groups()
            symbols = subprocess.run(
                ["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True
            ).stdout
            weak = [s for s in symbols.splitlines() if re.search(r" [WVu] ", s)]
            own = (f"strop::{family}::simd::{isa}::", f"strop::simd::{isa}::")
            assert not [s for s in weak if not any(place in s for place in own)], path
