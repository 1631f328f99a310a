"""What modules of strop import: no circle, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import strop

ROOT = Path(__file__).parents[2] / "python"
# What `import strop` may not load, unless `import torch` has already.
HEAVY = (
    *("rich", "tqdm", "matplotlib", "scipy", "sympy", "PIL", "cv2", "onnx", "torchao"),
    *("torch.export", "torch._dynamo", "torch._inductor", "torch.nn.utils.prune", "statistics"),
    *(
        "strop.cli",
        "strop._bench",
        "strop._doctor",
        "strop._models.pack_model",
        "strop._models.report",
    ),
    "strop._quantize.report",
)


def modules() -> dict[str, Path]:
    """The modules below python/ by their names."""
    found = {}
    for path in (ROOT / "strop").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str) -> Iterator[str]:
    """The dotted names that a module imports, on top, in functions and for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Each module with those that it needs: what it names, and the packages around that.

    A package that a module lies in is there before it, and no need of it.
    """
    known = {*sources, "strop._C"}
    needed: dict[str, set[str]] = {}
    for name, source in sources.items():
        found = set()
        for dotted in imported(source):
            while dotted and dotted not in known:
                dotted = dotted.rpartition(".")[0]
            found.add(dotted)
            while "." in (dotted := dotted.rpartition(".")[0]):
                if not f"{name}.".startswith(f"{dotted}."):
                    found.add(dotted)
        needed[name] = found - {"", name}
    return needed


def circle(needed: dict[str, set[str]]) -> str:
    """A circle of modules in words; empty where there is none."""
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        return " is imported by ".join(error.args[1])
    return ""


def test_modules_import_each_other_without_circles():
    sources = {name: path.read_text() for name, path in modules().items()}
    assert len(sources) > 50
    assert circle(graph(sources)) == ""


def test_a_circle_is_found():
    a, b, c = "def f():\n    from strop import b", "import strop.p.c", "from strop.a import f"
    sources = {"strop": "from strop import a", "strop.a": a, "strop.b": b, "strop.p.c": c}
    assert set(circle(graph(sources)).split(" is imported by ")) == {
        "strop.a",
        "strop.b",
        "strop.p.c",
    }
    assert circle(graph({**sources, "strop.p.c": "import torch"})) == ""


def test_heavy_modules_are_imported_when_they_are_needed():
    code = f"""
import sys, torch
before = set(sys.modules)
import strop
print(sorted(m for m in {HEAVY!r} if m in sys.modules and m not in before))
strop.quantization_report, strop.pack_model
print("rich" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_every_public_name_is_there():
    assert {name for name in dir(strop) if not name.startswith("_")} >= set(strop.__all__)
    for name in strop.__all__:
        assert getattr(strop, name).__name__.rpartition(".")[2] == name
