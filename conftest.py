"""What a test run leaves behind: nothing. Doctests and notebooks are part of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["ibticks.testing.plugin"]

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("ibticks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ibticks")

# A run starts hundreds of Python processes, which share what the first one compiled, also where the
# environment says otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_LOAD_KERNELS = """
from ibticks._machine_code import Kernel
from ibticks.format import _kernels
for value in vars(_kernels).values():
    if isinstance(value, Kernel):
        value.load()
"""


# Markers follow from the fixtures that a test asks for; `slow` also from its file.
_MARKERS = {
    "pg": {"database", "dsn", "empty_dsn", "postgres", "sample_store", "server", "store"},
    "network": {"gateway", "serve"},
    "browser": {"browser", "lab"},
    "slow": {"browser", "lab", "serve"},
}
_SLOW_FILES = (
    *(
        "notebooks/*",
        "tests/notebook/*",
        "tests/cli/*",
        "tests/test_readme.py",
        "tests/testing/test_documentation.py",
        "tests/test_typing.py",
    ),
    *("*/test_kill*.py", "*/test_disk_full.py", "*/test_processes.py", "*/test_users.py"),
    *("*/test_embedded.py", "*/test_damaged.py", "*/test_migrations.py", "*/test_connection.py"),
    *("*/test_incremental.py", "*/test_jit.py", "*/test_pictures.py", "*/test_property.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the kernels once, before there are several test processes that need them."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-c", _LOAD_KERNELS], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they run, so that `-m "not slow"` leaves out the long ones."""
    shared_server = pytest.mark.skip(reason="starts a server; IBTICKS_TEST_DSN names another")
    for item in items:
        if os.environ.get("IBTICKS_TEST_DSN") and item.get_closest_marker("own_server"):
            item.add_marker(shared_server)
        fixtures = set(getattr(item, "fixturenames", ()))
        for marker, names in _MARKERS.items():
            if fixtures & names:
                item.add_marker(marker)
        path = item.path.relative_to(item.config.rootpath)
        if any(path.match(pattern) for pattern in _SLOW_FILES):
            item.add_marker("slow")


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of test processes: tests wait for half of their time."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture(scope="session", autouse=True)
def clusters() -> Iterator[Path]:
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
