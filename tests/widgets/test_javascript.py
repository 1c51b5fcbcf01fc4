"""The JavaScript of the views: unit tests under node, a lint, and the bundle that anywidget gets.

No package of the npm registry is used, so that there is neither ESLint nor a type check of the
JSDoc comments. node parses every module in strict mode; the rules below are checked as text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from ibticks.widgets._page_widget import VIEW_MODULES, bundle, javascript

STATIC = Path(str(files("ibticks.widgets") / "static"))
MODULES = sorted(path.stem for path in STATIC.glob("*.mjs"))
TESTS = Path(__file__).with_name("javascript")
MAX_LINE = 120

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.mjs";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:const|class|function) (\w+|\[[^\]]*\])", re.MULTILINE)
DECLARATION = re.compile(
    r"^(?:export )?(?:const|let|class|function) (\w+|\[[^\]]*\])", re.MULTILINE
)
EXPORTED_CODE = re.compile(r"^export (?:function (\w+)\(([^)]*)\)|class (\w+))", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
BANNED = {
    "var": r"\bvar\s",
    "loose equality": r"[^=!]==[^=]|!=[^=]",
    "innerHTML": r"\.(?:inner|outer)HTML\b",
    "eval": r"\beval\(|new Function\(",
    "console": r"\bconsole\.",
    "debugger": r"\bdebugger\b",
}


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        missing = "no node on the PATH: apt-get install nodejs"
        if os.environ.get("IBTICKS_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def source(name: str) -> str:
    return (STATIC / f"{name}.mjs").read_text("utf-8")


def code(name: str) -> str:
    """The source of a module without its comments."""
    return COMMENT.sub("", source(name))


def names(pattern: re.Pattern[str], text: str) -> list[str]:
    """The names that a pattern captures, those of a destructured list one by one."""
    return [name for group in pattern.findall(text) for name in re.findall(r"\w+", group)]


def imports(name: str) -> list[tuple[str, str]]:
    return [
        (imported.strip(), module)
        for group, module in IMPORT.findall(source(name))
        for imported in group.split(",")
    ]


def test_the_units_work_under_node(node: str) -> None:
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", *sorted(map(str, TESTS.glob("*.test.mjs")))],
        env=os.environ | {"IBTICKS_STATIC": str(STATIC)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ℹ fail 0$", done.stdout, re.MULTILINE)
    assert int(re.search(r"^ℹ pass (\d+)$", done.stdout, re.MULTILINE)[1]) >= 39


def test_every_module_and_bundle_parses(node: str, tmp_path: Path) -> None:
    for name in MODULES:
        (tmp_path / f"{name}.mjs").write_text(source(name), "utf-8")
    for view in VIEW_MODULES:
        # Two modules that declare the same name do not parse as one.
        (tmp_path / f"{view}.bundle.mjs").write_text(javascript(view), "utf-8")
    for path in tmp_path.iterdir():
        done = subprocess.run([node, "--check", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("view", VIEW_MODULES)
def test_a_bundle_is_one_module(view: str) -> None:
    text = COMMENT.sub("", javascript(view))
    assert not re.search(r"^\s*import\b", text, re.MULTILINE)
    assert re.findall(r"^export .*", text, re.MULTILINE) == ["export default { render };"]
    modules = VIEW_MODULES[view]
    for position, name in enumerate(modules):
        assert {module for _, module in imports(name)} <= set(modules[:position]), name


def test_uplot_precedes_charts() -> None:
    pytest.importorskip("uplot")
    text = javascript("live_view", charts=True)
    assert text.index("uPlot") < text.index("class Charts")


def test_a_bundle_keeps_text_that_looks_like_an_import() -> None:
    text = 'import { A } from "./a.mjs";\nconst text = "import x";\n  export const B = 1;\n'
    assert bundle([text]) == 'const text = "import x";\n  export const B = 1;\n'


def test_every_module_is_part_of_a_view() -> None:
    assert sorted({name for modules in VIEW_MODULES.values() for name in modules}) == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_imports_exist_and_are_used(name: str) -> None:
    text = IMPORT.sub("", code(name))
    assert code(name).count("import ") == len(IMPORT.findall(code(name)))
    for imported, module in imports(name):
        assert imported in names(EXPORT, source(module)), (imported, module)
        assert re.search(rf"\b{imported}\b", text), f"{imported} is not used"


@pytest.mark.parametrize("name", MODULES)
def test_declared_names_are_used(name: str) -> None:
    text = code(name)
    for declared in names(DECLARATION, text):
        users = [text, *(code(other) for other in MODULES if (declared, name) in imports(other))]
        is_exported = declared in names(EXPORT, text)
        is_tested = is_exported and any(declared in path.read_text() for path in TESTS.iterdir())
        count = sum(len(re.findall(rf"\b{declared}\b", user)) for user in users)
        assert count > 1 or is_tested, f"{declared} is not used"


@pytest.mark.parametrize("name", MODULES)
def test_the_style_rules_are_followed(name: str) -> None:
    text = code(name)
    for rule, pattern in BANNED.items():
        assert not re.search(pattern, text), rule
    long = [line for line in source(name).splitlines() if len(line) > MAX_LINE]
    assert long == []
    assert not re.search(r"[ \t]+$", source(name), re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_exported_functions_have_types(name: str) -> None:
    text = source(name)
    for match in re.finditer(
        r"^export (?:function (\w+)\(([^)]*)\)|class (\w+))", text, re.MULTILINE
    ):
        before = text[: match.start()].rstrip()
        assert before.endswith("*/"), f"{match[1] or match[3]} has no JSDoc"
        if match[1]:
            comment = before[before.rindex("/**") :]
            assert "@returns" in comment, match[1]
            assert bool(match[2]) == ("@param" in comment), match[1]
