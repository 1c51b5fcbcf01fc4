"""The line of tracked contracts: parsed, formatted, and refused with a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibticks.capture import TrackedContract, parse_tracked
from ibticks.capture._settings import check_tracked, format_tracked
from ibticks.config import TICK_TYPES
from ibticks.errors import ConfigError

CONTRACTS = st.builds(
    TrackedContract,
    st.integers(1, 2**32 - 1),
    st.text("ABCZ0129 ./-é", min_size=1, max_size=6).map(str.strip).filter(bool),
    st.lists(st.sampled_from(TICK_TYPES), min_size=1, unique=True).map(tuple),
    st.integers(1, 168),
)


@given(st.lists(CONTRACTS, unique_by=lambda contract: contract.contract_id, max_size=12))
def test_formatted_contracts_are_parsed_again(contracts: list[Any]) -> None:
    assert parse_tracked(format_tracked(contracts)) == tuple(contracts)


def test_the_example_of_the_reference() -> None:
    text = "711280073:MNQ:bid_ask;last:2, 265598 : AAPL : bid_ask ; last ; mid_point : 1 ,"
    assert parse_tracked(text.rstrip(", ")) == (
        TrackedContract(711280073, "MNQ", ("bid_ask", "last"), 2),
        TrackedContract(265598, "AAPL", ("bid_ask", "last", "mid_point"), 1),
    )


@pytest.mark.parametrize("text", ["265598:AAPL", "265598:AAPL:", "265598:AAPL::", "265598:AAPL::1"])
def test_omitted_fields(text: str) -> None:
    assert parse_tracked(text) == (TrackedContract(265598, "AAPL", ("bid_ask", "last"), 1),)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_empty_text(text: str) -> None:
    assert parse_tracked(text) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("265598", "entry 1 of the tracked contracts ('265598') has 1 parts: write contract_id:"),
        ("1:A:last:1:1", "entry 1 of the tracked contracts ('1:A:last:1:1') has 5 parts"),
        ("1:A,", "entry 2 of the tracked contracts is empty: '1:A,'"),
        ("1:A,,2:B", "entry 2 of the tracked contracts is empty"),
        ("AAPL:265598", "entry 1 of the tracked contracts ('AAPL:265598'): 'AAPL' is not a contr"),
        ("-1:A", "'-1' is not a contract id (a whole number)"),
        ("1.0:A", "'1.0' is not a contract id"),
        ("１:A", "'１' is not a contract id"),
        (":A", "'' is not a contract id"),
        ("9" * 5000 + ":A", "is not a contract id (a whole number)"),
        ("0:A", "contract A: 0 is not a contract id of IB"),
        ("4294967296:A", "contract A: 4294967296 is not a contract id of IB"),
        ("1:", "entry 1 of the tracked contracts ('1:'): the symbol is missing"),
        ("1::last", "the symbol is missing"),
        ("1:A:quotes", "unknown tick type 'quotes'; use some of last, all_last, bid_ask, mid_poi"),
        ("1:A:last;", "unknown tick type ''"),
        ("1:A:LAST", "unknown tick type 'LAST'"),
        ("1:A:last,2:B:bid-ask", "entry 2 of the tracked contracts ('2:B:bid-ask'): contract B:"),
        ("1:A:last;bid_ask;last", "a tick type is named twice: last;bid_ask;last"),
        ("1:A:last:x", "'x' is not a number of hours (a whole number)"),
        ("1:A:last:1.5", "'1.5' is not a number of hours"),
        ("1:A:last:0", "contract A: buffer of 0 hours; use 1 to 168"),
        ("1:A:last:169", "contract A: buffer of 169 hours"),
        ("1:A:last,1:A:bid_ask", "entry 2 of the tracked contracts ('1:A:bid_ask'): contract 1 is"),
    ],
)
def test_errors_name_the_entry(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        parse_tracked(text)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("265598", "AAPL"), "contract AAPL: '265598' is not a contract id of IB"),
        ((True, "AAPL"), "True is not a contract id"),
        ((1, "A:B"), "'A:B' is not a symbol"),
        ((1, None), "None is not a symbol"),
        ((1, "A", "last"), "contract A: give tick types as a tuple: ('last',)"),
        ((1, "A", ()), "contract A: no tick type; use some of last"),
        ((1, "A", ("last",), "1"), "buffer of '1' hours"),
        ((1, ""), None),
    ],
)
def test_invalid_contracts(arguments: Any, problem: str | None) -> None:
    if problem is None:
        assert TrackedContract(*arguments).symbol == ""
    else:
        with pytest.raises(ConfigError, match=re.escape(problem)):
            TrackedContract(*arguments)


def test_a_list_of_tick_types_is_kept_as_a_tuple() -> None:
    assert hash(TrackedContract(1, "A", ["last"])) == hash(TrackedContract(1, "A", ("last",)))


@pytest.mark.parametrize(
    ("contracts", "problem"),
    [
        ([TrackedContract(n, "A") for n in (1, 2, 3)], "3 contracts are to be tracked, and at mos"),
        ([TrackedContract(1, "A"), TrackedContract(1, "B")], "contract 1 is to be tracked twice"),
        ([(1, "A")], "(1, 'A') is not a TrackedContract"),
    ],
)
def test_contracts_that_cannot_be_captured_together(contracts: list[Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        check_tracked(contracts, 2)
