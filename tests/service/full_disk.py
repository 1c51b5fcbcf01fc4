"""Clients of a service while the disk of its store is full: run as a script, it plays the scene."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import httpx

import ibticks as ibt
from ibticks.capture import _capture as capture_module
from ibticks.gateway import Gateway
from ibticks.service import Service
from tests.capture.full_disk import SealedHere, SmallDisk, SmallFiles, replay
from tests.capture_checks import QUICK
from tests.service.feed import events

SMALL_BYTES = 64_000


class FilesUpToASize(SmallFiles):
    """A folder in which files of some size do not grow; the status file is smaller."""

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, resource.RLIM_INFINITY))


DISKS: dict[str, type[SmallDisk | SmallFiles]] = {
    "small disk": SmallDisk,
    "small files": FilesUpToASize,
}


def play(kind: str, folder: Path, dsn: str) -> dict[str, Any]:
    """Return the problems that a client and one that came later got, and the sequence numbers."""
    disk = DISKS[kind](folder)
    gateway = Gateway(replay(), speed=1.0).start()
    tracked: dict[str, Any] = {"tracked": "1:ONE:bid_ask", "port": gateway.port}
    with (
        ibt.open(disk.root, dsn=dsn) as store,
        ibt.Capture(store, **tracked, **QUICK) as capture,
        Service(store, port=0) as service,
        httpx.stream("GET", f"{service.url}/v2/stream/1", timeout=60) as response,
    ):
        messages, numbers, later = [], [], {}
        stream = events(response.iter_lines())
        for _, message in stream:
            data = message["data"]
            if message["type"] != "tick":
                messages.append({"type": message["type"], **data})
            else:
                numbers.append(data["sequence"])
                if len(numbers) == 600:
                    disk.fill()
            if data.get("code") == "STORAGE_ERROR":
                with httpx.stream("GET", f"{service.url}/v2/stream/1", timeout=60) as second:
                    later = next(
                        one["data"]
                        for _, one in events(second.iter_lines())
                        if one["type"] == "error"
                    )
                disk.free()
            if data.get("status") == "storage_restored":
                last = capture.status()["status"]["contracts"]["1"]["streams"]["bid_ask"]
                break
        for _, message in stream:
            if message["type"] == "tick":
                numbers.append(message["data"]["sequence"])
                if numbers[-1] >= last["sequence"]:
                    break
    gateway.close()
    return {"messages": messages, "numbers": numbers, "later": later, "lost": last["lost"]}


if __name__ == "__main__":
    capture_module.SealProcess = SealedHere  # type: ignore[assignment, attr-defined]
    json.dump(play(sys.argv[1], Path(sys.argv[2]), sys.argv[3]), sys.stdout)
