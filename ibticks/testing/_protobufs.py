"""Hypothesis strategies for protobuf messages, as their descriptors have them."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from ibticks.testing._v2 import INT64, UINT32, UINT64, WORDS, json_values
from ibticks.tick_stream_pb2 import StreamMessage

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["stream_messages"]

_SCALARS: Final[dict[int, SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: WORDS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_UINT32: UINT32,
    FieldDescriptor.TYPE_UINT64: UINT64,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
}


def stream_messages(*, regular: bool = False) -> SearchStrategy[StreamMessage]:
    """Protobuf messages with any combination of fields, each at any value it can hold.

    Parameters
    ----------
    regular : bool, default False
        Only messages v2 JSON has: with a timestamp between the years 1 and 9999, and with the
        payload their type names. Otherwise any type stands with any payload or none, the timestamp
        may be absent, and its seconds and nanoseconds are any int64 and int32.

    Returns
    -------
    SearchStrategy of StreamMessage
        Most are ticks. Doubles may be NaN.
    """
    payloads = ["tick_data", "tick_data", "tick_data", "error_data", "complete_data", "info_data"]
    fields = StreamMessage.DESCRIPTOR.fields_by_name
    seconds = st.integers(-62_135_596_800, 253_402_300_799)
    stamps = st.fixed_dictionaries({"seconds": seconds, "nanos": st.integers(0, 999_999_999)})

    def with_payload(name: str | None) -> SearchStrategy[StreamMessage]:
        kind = name.removesuffix("_data") if name else ""
        always: dict[str, SearchStrategy[Any]] = {"stream_id": WORDS}
        optional = {"metadata": _value(fields["metadata"])}
        if name:
            always[name] = _value(fields[name])
        if regular:
            always |= {"type": st.just(kind), "timestamp": stamps}
        else:
            always["type"] = st.one_of(st.just(kind), st.just("tick"), WORDS)
            optional["timestamp"] = st.one_of(stamps, _value(fields["timestamp"]))
        drawn = st.fixed_dictionaries(always, optional=optional)
        return drawn.map(lambda values: _build(StreamMessage(), values))

    return st.sampled_from(payloads if regular else [*payloads, None]).flatmap(with_payload)


_Built = TypeVar("_Built", bound=Message)


def _build(message: _Built, values: dict[str, Any]) -> _Built:
    """Set fields from plain values; an empty dictionary makes a message present and empty."""
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, list):
            getattr(message, name).extend(value)
        elif field.is_repeated:
            getattr(message, name).update(value)
        elif isinstance(value, dict):
            part = getattr(message, name)
            part.SetInParent()
            _build(part, value)
        else:
            setattr(message, name, value)
    return message


@functools.cache
def _value(field: FieldDescriptor) -> SearchStrategy[Any]:
    """Values of a field as :func:`_build` takes them: dictionaries for messages and maps."""
    if field.message_type is None:
        scalar = _SCALARS[field.type]
        return st.lists(scalar, max_size=4) if field.is_repeated else scalar
    if field.is_repeated:
        texts = st.one_of(WORDS, json_values().map(json.dumps))
        return st.dictionaries(WORDS, texts, max_size=3)
    parts = {part.name: _value(part) for part in field.message_type.fields}
    return st.fixed_dictionaries({}, optional=parts)
