"""The pages: their Python runs, their links lead somewhere, what is written by programs is up to date."""

import importlib.util
import re
from pathlib import Path

import pytest
from benchmarks import __main__ as suite
from benchmarks import headline, pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
NAMES = [page.name for page in PAGES]


def blocks(page):
    """Its blocks of Python, each moved down to its own lines, for errors to name them."""
    text = page.read_text()
    return [
        "\n" * text[: match.start(1)].count("\n") + match[1]
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


def needs(code):
    """The packages that a page's Python imports, and what draws its pictures."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.M))
    return imported | ({"matplotlib"} if ".plot(" in code else set())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda p: p.name)
def test_blocks_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    found = blocks(page)
    for package in needs("\n".join(found)):
        pytest.importorskip(package, reason=f"{page.name} needs {package}")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for block in found:
        exec(compile(block, page, "exec"), names)


def test_the_guides_have_code():
    for name in ("quickstart", "quantize", "prune", "linear", "augment"):
        assert len(blocks(DOCS / f"{name}.md")) > 3, name
    assert len(blocks(README)) >= 4


def anchors(page):
    """Where links into a page may lead, as GitHub names its headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    found = []
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        anchor = re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_every_page_is_in_the_index():
    linked = re.findall(r"\]\((?:\.\./)?([\w-]+\.md)\)", (DOCS / "index.md").read_text())
    assert set(linked) == set(NAMES) - {"index.md"}


def test_the_readme_takes_two_minutes():
    assert README.read_text().count("\n") <= 220
    assert len(headline.ROWS) <= 12


def test_tables_say_what_the_results_say():
    for page, text in pages.rewritten(pages.load()).items():
        assert page.read_text() == text, "python -m benchmarks --tables writes the tables anew"


def test_tables_are_rewritten_without_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "measure_and_draw", lambda family: pytest.fail("it measures"))
    stale = tmp_path / "page.md"
    stale.write_text("<!-- gpu:begin -->\nstale\n<!-- gpu:end -->\n")
    monkeypatch.setattr(pages, "contents", lambda every: [(stale, "gpu", pages.gpus(every))])
    assert suite.main(["--tables"]) == 0
    assert "NVIDIA" in stale.read_text()
    assert "stale" not in stale.read_text()


@pytest.fixture(scope="module")
def api_index():
    spec = importlib.util.spec_from_file_location("api_index", DOCS / "api_index.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_index_is_up_to_date(api_index):
    assert api_index.PAGE.read_text() == api_index.text(), "python docs/api_index.py writes it anew"


def test_the_api_index_has_every_public_name_once(api_index):
    listed = " ".join(api_index.FAMILIES.values()).split()
    assert sorted(listed) == sorted(api_index.public_names())
