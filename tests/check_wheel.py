"""Whether a wheel has what is promised: python check_wheel.py FOLDER, where it is unpacked and installed.

``make wheel`` runs it; it is no test, since a wheel takes minutes to build.
"""

import re
import sys
from pathlib import Path

import strop

ROOT = Path(__file__).parent.parent


def promised() -> list[str]:
    """The GPUs of pyproject.toml, by the names of build_info()."""
    text = (ROOT / "pyproject.toml").read_text()
    (names,) = re.findall(r'^STROP_CUDA_ARCHITECTURES = "(.*)"$', text, re.M)
    return [
        f"sm_{n.removesuffix('-real')}" + ("" if n.endswith("-real") else " and PTX")
        for n in names.split(";")
    ]


def main() -> None:
    """Exits with what differs."""
    folder = Path(sys.argv[1]).resolve()
    where = Path(strop._C.__file__).resolve()
    if not where.is_relative_to(folder):
        sys.exit(f"check_wheel: strop was loaded from {where}, not from {folder}")
    found = strop.build_info()["cuda_architectures"]
    if found != promised():
        sys.exit(f"check_wheel: the wheel has kernels for {found}; {promised()} are promised")
    if extra := [path.name for path in folder.rglob("*cuda_host*")]:
        sys.exit(f"check_wheel: the wheel has the tests' {extra}")
    print(
        f"the wheel has kernels for {', '.join(found)}, and for {', '.join(strop.supported_isas())} here"
    )


if __name__ == "__main__":
    main()
