"""Makes the environment of DeepSparse: python benchmarks/deepsparse_environment.py FOLDER

Runs under the Python that the environment will have, which needs nothing installed. A folder stands there
when all of it is: it is made under another name, and renamed at the end.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("deepsparse_requirements.txt")
PYTHON = (3, 11)


def flags() -> set[str]:
    """What this processor can, as Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def obstacle(version: tuple[int, ...], system: str, machine: str, flags: set[str]) -> str | None:
    """Why DeepSparse cannot be installed, in words; None where it can."""
    if version[:2] != PYTHON:
        return (
            f"DeepSparse 1.8.0 is installed under Python 3.11, and this is {version[0]}.{version[1]}: "
            "name another, as in make bench-deepsparse DEEPSPARSE_PYTHON=python3.11"
        )
    if (system, machine) != ("Linux", "x86_64"):
        return f"DeepSparse 1.8.0 is measured on Linux on x86_64, and this is {system} on {machine}"
    if "avx2" not in flags:
        return "DeepSparse 1.8.0 needs AVX2, which this processor lacks"
    return None


def make(folder: Path) -> str | None:
    """Makes the environment; what went wrong, or None."""
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        venv.create(unfinished, with_pip=True)
        done = subprocess.run(
            [
                *(unfinished / "bin" / "python", "-m", "pip", "--disable-pip-version-check"),
                *("install", "--quiet", "--only-binary", ":all:", "--requirement", REQUIREMENTS),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
            return f"pip could not install DeepSparse: {' '.join(errors) or done.stderr[-500:]}"
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Makes the environment that is named; 1 where that cannot be."""
    (folder,) = map(Path, arguments)
    here = sys.version_info, platform.system(), platform.machine(), flags()
    found = obstacle(*here) or make(folder)
    if found:
        print(f"bench-deepsparse: {found}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
