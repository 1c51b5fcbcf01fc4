"""Paths of companions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ibticks.columns import CompanionKey, list_companions
from ibticks.storage import list_paths

from .conftest import DAY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "path",
    [
        "columns/8314/last/2013/10/08.pq",
        "columns/08314/last/2013/10/08.parquet",
        "columns/8314/lost/2013/10/08.parquet",
        "columns/8314/last/2013/13/08.parquet",
        "8314/last/2013/10/08.parquet",
        "columns/8314/last/2013/10/.08.parquet.new",
    ],
)
def test_other_paths_are_no_companions(path: str) -> None:
    assert CompanionKey.parse(path) is None


def test_companions_are_listed_in_order_and_are_no_hour_files(root: Path) -> None:
    keys = [CompanionKey(9, "last", DAY), CompanionKey(8314, "bid_ask", DAY)]
    for key in keys:
        (root / key.path).parent.mkdir(parents=True)
        (root / key.path).touch()
    (root / "columns" / "9" / "last" / "2013" / "10" / "notes.parquet").touch()
    assert list(list_companions(root)) == keys
    assert not list_paths(root).paths


def test_a_store_without_companions_has_none(root: Path) -> None:
    assert list(list_companions(root)) == []
