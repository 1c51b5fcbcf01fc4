"""The language of the project: names and sentences of source, notebooks and pages.

``python tests/test_language.py ibticks/storage tests/storage`` lists what breaks them.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for pattern in (
        *("ibticks/**/*.py", "benchmarks/**/*.py", "tests/**/*.py", "notebooks/*.ipynb"),
        *("*.md", "docs/**/*.md", "ibticks/**/*.md", "benchmarks/**/*.md", "tests/**/*.md"),
    )
    for path in ROOT.glob(pattern)
    if "pb2" not in path.name
)

# Participles and pronouns do not describe a thing; the other words have terms of the field.
BANNED_NAMES = frozenset(
    [
        *("said", "told", "heard", "kept", "held", "given", "found", "joined", "named", "each"),
        *("whoever", "clerk", "stretch", "stretches", "patience", "courtesy", "breath", "beat"),
    ]
)
# Public names that stay, or that warn with the new one.
PUBLIC_NAMES = {
    "ibticks/analysis/_incremental/incremental.py": ["kept"],
    "ibticks/coverage/_model.py": ["stretches"],
    "ibticks/live/_reader.py": ["patience"],
    "ibticks/store/_deletion.py": ["kept"],
}
BANNED_PHRASES = re.compile(
    r"\b(whoever|whatever is|nobody|of ours|is told|are told|be told|stretch(es)? of)\b",
    re.IGNORECASE,
)
BANNED_OPENERS = re.compile(r"(What|Whether|How|Who|Whom|Whose|Where|When|Of)\b")
QUANTITY = re.compile(
    r"(DELAY|TIMEOUT|WAIT|PAUSE|PATIENCE|GRACE|PERIOD|REFRESH|POLL|HEARTBEAT|AGE|LIFETIME|BACKOFF"
    r"|BUFFER|CHUNK)$"
)


def findings(path: Path) -> list[str]:
    """Return what breaks the rules in one file, a line each."""
    text = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".py":
            places = _code_findings(text)
        case ".ipynb":
            places = _notebook_findings(text)
        case _:
            places = _prose_findings(text)
    name = path.relative_to(ROOT).as_posix()
    public = [f"{word} is no name: say what it is" for word in PUBLIC_NAMES.get(name, [])]
    return [
        f"{name}:{line}: {message}" for line, message in sorted(places) if message not in public
    ]


def _code_findings(text: str) -> list[tuple[int, str]]:
    tree = compile(text, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return [
        (getattr(node, "lineno", 1), message)
        for node in ast.walk(tree)
        for message in _broken_rules(node)
    ] + [
        (token.start[0], f"comment says {match[0]!r}")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and (match := BANNED_PHRASES.search(token.string))
    ]


def _notebook_findings(text: str) -> list[tuple[int, str]]:
    """Return the findings of each cell, with its number in place of a line."""
    return [
        (number, message)
        for number, cell in enumerate(json.loads(text)["cells"], 1)
        for _, message in (_code_findings if cell["cell_type"] == "code" else _prose_findings)(
            "".join(cell["source"])
        )
    ]


def _prose_findings(text: str) -> list[tuple[int, str]]:
    return [
        (number, f"text says {match[0]!r}")
        for number, line in enumerate(text.splitlines(), 1)
        if (match := BANNED_PHRASES.search(line))
    ]


def _broken_rules(node: ast.AST) -> list[str]:
    messages = []
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.alias(asname=str(name)):
            messages += _name(name)
        case ast.Attribute(attr=name, ctx=ast.Store()):
            messages += _name(name)
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
            messages += _quantity(target, value)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        messages += _name(node.name)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
        doc = ast.get_docstring(node) or ""
        if BANNED_OPENERS.match(doc):
            messages.append(f"docstring opens with {doc.split()[0]!r}")
        if match := BANNED_PHRASES.search(doc):
            messages.append(f"docstring says {match[0]!r}")
    return messages


def _name(name: str) -> list[str]:
    words = name.lower().strip("_")
    if words in BANNED_NAMES:
        return [f"{name} is no name: say what it is"]
    return []


def _quantity(target: ast.expr, value: ast.expr | None) -> list[str]:
    """Return the rule that a constant of time or size without a unit breaks."""
    numbers = value is not None and all(
        isinstance(part, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
        and (not isinstance(part, ast.Constant) or isinstance(part.value, int | float))
        for part in ast.walk(value)
    )
    if numbers and isinstance(target, ast.Name) and QUANTITY.search(target.id):
        return [f"{target.id} has no unit, as _SECONDS or _BYTES"]
    return []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_docstrings_and_comments_follow_the_glossary(path: Path) -> None:
    assert findings(path) == []


if __name__ == "__main__":
    places = [Path(argument).resolve() for argument in sys.argv[1:]] or [ROOT]
    listed = [
        line
        for path in SOURCES
        if any(path.is_relative_to(place) for place in places)
        for line in findings(path)
    ]
    print(*listed, f"{len(listed)} findings", sep="\n")
