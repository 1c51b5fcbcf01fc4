"""The command line, run in this process or in a shell of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest

from ibticks.cli import main

PROGRAM = [sys.executable, "-c", "from ibticks.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    """The result of a command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command in this process."""

    def run(*arguments, typed=""):
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
def shell():
    """Run a command in a process of its own."""

    def run(*arguments, **options):
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
def sample(sample_store, monkeypatch):
    """The store of the samples is the one that commands use by default."""
    monkeypatch.setenv("IBTICKS_STORE", str(sample_store.root))
    return sample_store


@pytest.fixture
def own(tmp_path, database):
    """Options that name an empty store of this test."""
    return ["-s", tmp_path / "ticks", "--dsn", database]
