"""The command line, run in this process or in a shell."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ibticks.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibticks import Store

PROGRAM = [sys.executable, "-c", "from ibticks.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    """The result of a command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process."""

    def run(*arguments: str | Path | int, typed: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["ibticks", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as left:
                main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


@pytest.fixture
def shell() -> Callable[..., Done]:
    """Run a command in a separate process."""

    def run(*arguments: str, **options: Any) -> Done:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def sample(sample_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of the samples is the one that commands use by default."""
    monkeypatch.setenv("IBTICKS_STORE", str(sample_store.root))
    return sample_store


@pytest.fixture
def own(tmp_path: Path, database: str) -> list[Any]:
    """Options that name an empty store of this test."""
    return ["-s", tmp_path / "ticks", "--dsn", database]
