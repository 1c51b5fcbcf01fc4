"""Any JSON value as a string: one to one, both ways."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ibticks.errors import ProtocolError
from ibticks.format._messages import MAX_DEPTH, from_text, to_text
from ibticks.testing.strategies import json_values

TRICKY = [
    *("5", '"5"', '"\\"5\\""', " 5", "5 ", "1e5", "1E5", "1.0", "-0", "-0.0", "1e400", "١"),
    *("NaN", "Infinity", "-Infinity", "nan", "true", "True", "null", "None", ""),
    *('"hello"', '"é"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud800"', "\ufeff5", "\x00"),
    *("[]", "{}", "[1, 2]", "[1,2]", '{"a": 1}', '{"a": 1, "a": 2}', '["\\ud800"]', '[["x"]]'),
    *("9" * 4000, "9" * 5000, "[" * 64 + "]" * 64, "[" * 65 + "]" * 65, "[" * 100_000),
]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@given(json_values())
def test_a_value_survives_a_round_trip(value: Any) -> None:
    back = from_text(to_text(value, "k"))
    assert back == value
    assert type(back) is type(value)
    assert json.dumps(back) == json.dumps(value)  # true is not 1, and 1 is not 1.0


@given(st.one_of(st.text(), json_values().map(json.dumps), st.sampled_from(TRICKY)))
def test_a_text_survives_a_round_trip(text: Any) -> None:
    assert to_text(from_text(text), "k") == text


@pytest.mark.parametrize("text", TRICKY, ids=range(len(TRICKY)))
def test_a_string_that_looks_like_json_stays_a_string(text: str) -> None:
    assert from_text(to_text(text, "k")) == text
    assert to_text(from_text(text), "k") == text


@given(st.text(st.characters(categories=["Cs", "L", "N", "P"])))
@example("\ud800")
@example('"\ud800"')
def test_lone_surrogates_are_escaped(value: str) -> None:
    text = to_text(value, "k")
    text.encode()  # a lone surrogate would raise
    assert from_text(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        (0, "0"),
        (1.0, "1.0"),
        (math.inf, "Infinity"),
        ([1, "a", {"b": None}], '[1, "a", {"b": null}]'),
        ("plain", "plain"),
        ("True", "True"),
        ("true", '"true"'),
        ("5", '"5"'),
        ('"5"', '"\\"5\\""'),
        ('"hello"', '"hello"'),
        ("1e5", "1e5"),
        (" 5", " 5"),
    ],
)
def test_the_text_has_the_documented_form(value: float | list[Any] | str | None, text: str) -> None:
    assert to_text(value, "k") == text
    assert from_text(text) == value


def test_nan_is_kept() -> None:
    assert to_text(math.nan, "k") == "NaN"
    assert math.isnan(from_text("NaN"))
    assert math.isnan(from_text(to_text([math.nan], "k"))[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), "a JSON value"),
        ({"a": {1, 2}}, "a JSON value"),
        (b"bytes", "a JSON value"),
        ({1: "a"}, "keys that are strings"),
        ([{None: 1}], "keys that are strings"),
        (nested(MAX_DEPTH + 1), "deeper than 64"),
        ([10**5000], "digits"),
    ],
)
def test_values_that_json_would_change_are_refused_by_name(value: Any, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected) as caught:
        to_text(value, "metadata.note")
    assert str(caught.value).startswith("metadata.note: ")
    assert caught.value.context["key"] == "metadata.note"


def test_a_list_in_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ProtocolError, match="deeper"):
        to_text(loop, "k")


def test_the_deepest_value_allowed_comes_back() -> None:
    assert from_text(to_text(nested(MAX_DEPTH), "k")) == nested(MAX_DEPTH)
