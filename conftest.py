"""What a test run leaves behind: nothing. Doctests and notebooks are part of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("ibticks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ibticks")


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of test processes: tests wait for half of their time."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture(scope="session", autouse=True)
def clusters():
    """The folder of every embedded PostgreSQL of the run, gone with it."""
    # Short, since a socket's path has about a hundred bytes; and as root the server runs as
    # another user, who must get through.
    base = Path(tempfile.mkdtemp(prefix="ibt-"))
    base.chmod(0o711)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBTICKS_PGDATA", str(base))
        patch.delenv("IBTICKS_DSN", raising=False)
        patch.delenv("IBTICKS_STORE", raising=False)
        yield base
    shutil.rmtree(base)
