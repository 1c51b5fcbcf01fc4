"""Days on which the library is wrong about futures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ibticks.calendar import market
from ibticks.calendar._schedules import CORRECTIONS, Correction
from ibticks.errors import NoSessionError

if TYPE_CHECKING:
    from ibticks import Session

ROWS = [(name, value) for value in CORRECTIONS for name in value.calendars]


def local(session: Session, ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 10**9, UTC).astimezone(market(session.market).tz)


@pytest.mark.parametrize(
    ("name", "correction"), ROWS, ids=lambda value: str(getattr(value, "day", value))
)
def test_every_correction_is_applied(name: str, correction: Correction) -> None:
    assert correction.source
    kind = "globex" if market(name).name == "CME" else "regular"
    if not correction.is_open:
        with pytest.raises(NoSessionError, match=f"no regular session on .* {correction.day}"):
            market(name).session(correction.day, kind)
        return
    session = market(name).session(correction.day, kind)
    usual = next(
        value
        for days in range(1, 15)
        for value in market(name).sessions(
            correction.day - timedelta(days), correction.day - timedelta(days), kind
        )
        if not value.early_close
    )
    # It opens as ever, in the evening before where that is usual.
    opens = local(session, session.start_ns)
    assert opens.time() == local(usual, usual.start_ns).time()
    assert correction.day - opens.date() == usual.date - local(usual, usual.start_ns).date()
    closes = local(session, session.end_ns)
    assert closes.date() == correction.day
    assert session.early_close is (correction.close is not None)
    assert closes.time() == (correction.close or local(usual, usual.end_ns).time())
    assert all(start <= end <= session.end_ns for start, end in session.breaks)


@pytest.mark.parametrize("name", ["NYSE", "NASDAQ", "CFE", "US"])
@pytest.mark.parametrize("day", sorted({correction.day for correction in CORRECTIONS}))
def test_shares_were_not_traded(name: str, day: date) -> None:
    with pytest.raises(NoSessionError):
        market(name).session(day)


@pytest.mark.parametrize("name", ["CMEGlobex_CL", "CMEGlobex_Gold", "CMEGlobex_FX"])
@pytest.mark.parametrize("day", [date(2018, 12, 5), date(2025, 1, 9)])
def test_energy_metals_and_currencies_were_traded(name: str, day: date) -> None:
    assert not market(name).session(day).early_close


def test_a_day_is_corrected_once_and_in_order() -> None:
    table = market("CBOT_Agriculture").tables["regular"]
    assert (table.days[1:] > table.days[:-1]).all()
    assert (table.start_ns[1:] >= table.end_ns[:-1]).all()
    assert sum(day == date(2025, 1, 9) for day in table.days.tolist()) == 1
