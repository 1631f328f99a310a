"""Writes docs/api.md from the docstrings of every public name."""

from __future__ import annotations

import inspect
import operator
import re
from pathlib import Path

from torch import nn

import strop

PAGE = Path(__file__).with_name("api.md")

FAMILIES = {
    "Quantize": """fake_quantize fake_quantize_ quantize dequantize choose_scale Scales QuantizedTensor nn.Held
        quantization_report pack_bits unpack_bits formats NumberFormat""",
    "Prune": "prune_mask prune_masks soft_threshold soft_threshold_ pack_mask unpack_mask",
    "Linear layers": """pack_model load_packed densify nn.PackedLinear pack_weight packed_linear PackedWeight
        tune""",
    "Augment": """augment_images warp_masks warp_points warp_boxes affine_matrix keras_matrix""",
    "All families": "Report isa supported_isas set_isa build_info",
}

# Methods that strop calls itself.
INTERNAL = (
    "applied",
    "beside",
    "carried",
    "facts",
    "follow",
    "held",
    "of_facts",
    "of_shapes",
    "validate",
)

HEAD = """# API index

Every public name, by family, with the first sentence of its docstring. `help(strop.fake_quantize)` has the rest: shapes,
dtypes, errors, formula and an example. This page is written by `python docs/api_index.py`.
"""


def public_names() -> list[str]:
    """Those of the package and of its modules."""
    return [name for name in strop.__all__ if name != "nn"] + [f"nn.{n}" for n in strop.nn.__all__]


def found(name: str) -> object:
    """The object of a public name."""
    return operator.attrgetter(name)(strop)


def signature(name: str, thing: object) -> str:
    """How it is called: names and defaults, and what it returns."""
    try:
        given = inspect.signature(thing)
    except ValueError:  # of a compiled function, whose docstring begins with it
        return f"strop.{inspect.getdoc(thing).splitlines()[0]}"
    bare = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    returned = given.return_annotation
    plain = given.replace(parameters=bare, return_annotation=given.empty)
    arrow = "" if returned in (given.empty, None, "None") else f" -> {str(returned).lstrip('_')}"
    return f"strop.{name}{plain}{arrow}"


def first_sentence(thing: object) -> str:
    """The first one of a docstring, in Markdown."""
    paragraphs = inspect.getdoc(thing).split("\n\n")
    text = " ".join((paragraphs[1] if "->" in paragraphs[0] else paragraphs[0]).split())
    text = re.sub(r":\w+:`~?(?:strop\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
    return re.match(r".*?[.](?=\s|$)", text)[0]


def methods(thing: object) -> list[str]:
    """A line for each method that a class adds to what torch's modules have."""
    lines: dict[str, str] = {}
    for base in reversed(thing.__mro__) if inspect.isclass(thing) else ():
        for name, member in vars(base).items():
            function = getattr(member, "__func__", member)
            told = callable(function) and not name.startswith("_") and name not in INTERNAL
            torchs = issubclass(base, nn.Module) and hasattr(nn.Module, name)
            if base.__module__.startswith("strop") and told and not torchs:
                lines[name] = f"- `.{name}`: {first_sentence(function)}"
    return list(lines.values())


def entry(name: str) -> str:
    """A name's section."""
    thing = found(name)
    parts = [f"### {name}", f"```text\n{signature(name, thing)}\n```", first_sentence(thing)]
    listed = methods(thing)
    return "\n\n".join([*parts, "\n".join(listed)] if listed else parts)


def text() -> str:
    """The whole page."""
    parts = [HEAD.rstrip()]
    for family, names in FAMILIES.items():
        parts += [f"## {family}", *(entry(name) for name in names.split())]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
