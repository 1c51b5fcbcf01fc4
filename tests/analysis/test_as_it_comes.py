"""What a measure says of a tick does not change when more come: live is what the day will be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ibticks import analysis

from .frames import ticks

MEASURES = {
    "tick": lambda f: analysis.trade_sign(f, "tick"),
    "lee_ready": analysis.trade_sign,
    "clnv": lambda f: analysis.trade_sign(f, "clnv"),
    "signed_volume": analysis.signed_volume,
    "cumulative_delta": analysis.cumulative_delta,
    "order_flow_imbalance": analysis.order_flow_imbalance,
    "quote_imbalance": analysis.quote_imbalance,
    "effective_spread": analysis.effective_spread,
    "interarrival": analysis.interarrival,
    "staleness": analysis.staleness,
    "duplicates": analysis.duplicates,
    "crossed_quotes": analysis.crossed_quotes,
}


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=15, deadline=None)
@given(frame=ticks(), data=st.data())
def test_more_ticks_change_nothing(name, frame, data):
    seen = frame[: data.draw(st.integers(0, frame.height))]
    so_far, whole = MEASURES[name](seen), MEASURES[name](frame)
    assert_frame_equal(so_far, whole[: so_far.height])
