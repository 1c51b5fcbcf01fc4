"""The README, run: its commands and code, and the output it shows."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import ibticks as ibt
from ibticks.cli._app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[1] / "README.md"
STORE = "~/ticks"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FRAME = re.compile(r"[│┆─═╞╡┌┐└┘╪┬┴├┼┤]+")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``shows`` is the text block right below it, if there is one."""

    language: str
    code: str
    line: int
    shows: str | None

    @property
    def stands_alone(self) -> bool:
        """Return whether the block runs without ibticks."""
        return "schema_pb2" in self.code


def read_blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    actual = list(_FENCE.finditer(text))
    blocks = []
    for match, after in zip(actual, [*actual[1:], None], strict=True):
        follows = after is not None and not text[match.end() : after.start()].strip()
        shows = after[2] if follows and after[1] == "text" else None
        blocks.append(Block(match[1], match[2], text[: match.start(2)].count("\n"), shows))
    return blocks


BLOCKS = read_blocks()


def words(text: str) -> list[str]:
    """The words of a printed table, however wide its columns are."""
    return _FRAME.sub(" ", text).split()


def run(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_ibticks(line: str, root: Path) -> str:
    words = shlex.split(line.replace(STORE, str(root)))
    assert words[0] == "ibticks"
    start = "from ibticks.cli import main; main()"
    return run([sys.executable, "-c", start, *words[1:]], root.parent)


def run_cell(block: Block, root: Path, namespace: dict[Any, Any]) -> str:
    """Return the output of a notebook cell: its last expression, if it is one."""
    tree = ast.parse(block.code.replace(STORE, str(root)))
    ast.increment_lineno(tree, block.line)
    body: list[Any] = tree.body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    exec(compile(tree, README, "exec"), namespace)
    return "" if last is None else str(eval(compile(last, README, "eval"), namespace))


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The store the README begins with, made by the command it gives."""
    folder = Path(tempfile.mkdtemp(prefix="ibt-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as another user, who must get through
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBTICKS_PGDATA", str(folder))
        patch.delenv("IBTICKS_DSN", raising=False)
        patch.delenv("IBTICKS_STORE", raising=False)
        [keep] = [
            line for block in BLOCKS for line in block.code.splitlines() if " demo --keep " in line
        ]
        run_ibticks(keep, folder / "ticks")
        yield folder / "ticks"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store(root: Path) -> Iterator[ibt.Store]:
    with ibt.open(root) as opened:
        yield opened


def test_the_two_commands() -> None:
    lines = [line for block in BLOCKS for line in block.code.splitlines()]
    assert 'python -m pip install -e ".[all]" && ibticks demo' in lines
    assert 'python -m pip install -e ".[test]" && pytest' in lines


def test_the_session(root: Path) -> None:
    """Top to bottom: commands as a shell runs them, Python in one namespace."""
    namespace: dict[Any, Any] = {"__name__": "readme"}
    compared = 0
    try:
        for block in BLOCKS:
            if block.language == "python" and not block.stands_alone:
                shown = run_cell(block, root, namespace)
            elif block.language == "bash" and "ibticks ls" in block.code:
                # The first line is the path of the store.
                shown = run_ibticks(block.code.splitlines()[-1], root).partition("\n")[2]
            else:
                continue
            if block.shows is not None:
                assert words(shown) == words(block.shows), f"README.md, line {block.line}"
                compared += 1
    finally:
        for name in (
            *("view", "status", "browser", "capture", "gateway", "simulated", "service"),
            "store",
        ):
            if name in namespace:
                getattr(namespace[name], "stop" if name == "capture" else "close")()
    assert compared >= 4


def test_a_file_is_read_with_protobuf_alone(root: Path, tmp_path: Path) -> None:
    [compiling] = [block for block in BLOCKS if block.code.startswith("protoc ")]
    [reading] = [block for block in BLOCKS if block.stands_alone]
    protoc, *options = shlex.split(compiling.code.replace(STORE, str(root)))
    assert protoc == "protoc"
    run([sys.executable, "-m", "grpc_tools.protoc", *options], tmp_path)
    (tmp_path / "reader.py").write_text(
        "import sys\nsys.modules['ibticks'] = None\n" + reading.code.replace(STORE, str(root))
    )
    assert words(run([sys.executable, "reader.py"], tmp_path)) == words(str(reading.shows))


def test_every_command_it_names_exists() -> None:
    names = set(re.findall(r"`ibticks ([a-z]+)", README.read_text(encoding="utf-8")))
    assert len(names) >= 9
    group: Any = typer.main.get_command(app)
    assert names <= set(group.commands)


def test_every_command_line_is_one() -> None:
    lines = [
        line
        for block in BLOCKS
        if block.language == "bash"
        for line in block.code.splitlines()
        if line.startswith("ibticks ")
    ]
    assert len(lines) >= 7
    for line in lines:
        command: Any = typer.main.get_command(app)
        words = shlex.split(line)[1:]
        with command.make_context("ibticks", list(words)) as context:
            name, command, words = command.resolve_command(context, words)
            while hasattr(command, "resolve_command"):
                with command.make_context(name, list(words)) as inner:
                    name, command, words = command.resolve_command(inner, words)
            command.make_context(name, words)


def test_every_name_in_sql_exists(store: ibt.Store) -> None:
    text = README.read_text(encoding="utf-8")
    [paragraph] = re.findall(r"^Tables `.*?\n\n", text, re.MULTILINE | re.DOTALL)
    tables, functions, views = re.split(r"; functions|; views", paragraph)
    wanted = {name for part in (tables, views) for name in re.findall(r"`(\w+)`", part)}
    relations = store.sql("SELECT relname FROM pg_class WHERE relkind IN ('r', 'v')")["relname"]
    assert len(wanted) == 12
    assert wanted <= set(relations)
    called = set(re.findall(r"`(\w+)`", functions))
    assert len(called) == 5
    assert called <= set(store.sql("SELECT proname FROM pg_proc")["proname"])


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
