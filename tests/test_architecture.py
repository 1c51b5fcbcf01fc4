"""ARCHITECTURE.md against the source: its picture is generated, and its places exist.

``python tests/test_architecture.py`` writes the picture again, from the contract of the linter and
the imports of the source.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: begin -->\n", "<!-- rooms: end -->\n"
PLACE = re.compile(r"`((?:ibticks|tests|sql|proto)/[\w/.]+)(?:::([\w.]+))?`")


def floors() -> list[list[str]]:
    """Return the rooms by floor, the highest first, from the contract of import-linter."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["id"] == "floors"
    )
    return [
        [room.strip(" ()") for room in re.split(r"[|:]", layer)] for layer in contract["layers"]
    ]


def arrows() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    graph = grimp.build_graph("ibticks", exclude_type_checking_imports=True, cache_dir=None)
    imports = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            above, below = (name.split(".")[1:2] for name in (module, imported))
            if above and below and above != below:
                imports[above[0]].add(below[0])
    return imports


def picture() -> str:
    """Return the rooms and their arrows as a table, the highest floor first."""
    imports = arrows()
    ground = {
        "errors",
        "config",
        "tick_stream_pb2",
        *(room for floor in floors() for room in floor if room[0] == "_"),
    }
    lines = ["| floor | room | purpose | imports, besides errors and values |", "|---|---|---|---|"]
    for number, rooms in zip(range(len(floors()) - 1, -1, -1), floors(), strict=True):
        for room in rooms:
            if room.startswith("_") or not (ROOT / "ibticks" / room / "__init__.py").exists():
                continue
            below = ", ".join(f"`{name}`" for name in sorted(imports[room] - ground)) or "–"
            lines.append(f"| {number} | `{room}` | {purpose(room)} | {below} |")
    return "\n".join(lines) + "\n"


def purpose(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    source = (ROOT / "ibticks" / room / "__init__.py").read_text()
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return " ".join(first.split()).removesuffix(".").replace("``", "`").replace(":mod:", "")


def _parts() -> tuple[str, str, str]:
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    inside, _, after = rest.partition(END)
    return before, inside, after


def test_the_picture_is_the_contract_of_the_linter() -> None:
    assert _parts()[1] == picture(), "run: python tests/test_architecture.py"


def places() -> list[tuple[str, str]]:
    """Return the files and names that the page refers to."""
    return sorted(set(PLACE.findall(PAGE.read_text())))


@pytest.mark.parametrize(("file", "name"), places(), ids=lambda value: value or "file")
def test_every_named_place_exists(file: str, name: str) -> None:
    path = ROOT / file
    assert path.exists()
    if name:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        value = module
        for attribute in name.split("."):
            value = getattr(value, attribute)
        assert getattr(value, "__module__", module.__name__) == module.__name__


def test_the_page_names_places() -> None:
    assert len(places()) > 40


if __name__ == "__main__":
    before, _, after = _parts()
    PAGE.write_text(f"{before}{BEGIN}{picture()}{END}{after}")
