"""Hypothesis strategies: v2 messages, protobuf messages, and encodings good and bad.

===========================  =====================================================================
:func:`ticks`                v2 tick messages, of one type or of any
:func:`messages`             v2 messages of all four types
:func:`timestamps`           the times in them
:func:`json_values`          the values in their metadata
:func:`stream_messages`      ``StreamMessage`` objects with any combination of fields
:func:`wire_messages`        encodings of a ``StreamMessage`` that the protobuf runtime accepts,
                             many of which no library would write
:func:`malformed_messages`   encodings damaged on purpose, most of which the runtime refuses
===========================  =====================================================================

What the runtime accepts is written down in :mod:`ibticks.testing.wire`.

Examples
--------
>>> from hypothesis import given
>>> from ibticks.format import from_protobuf, to_protobuf
>>> @given(messages())
... def round_trip(message):
...     assert from_protobuf(to_protobuf(message)) == message
>>> round_trip()
"""

from __future__ import annotations

from ibticks.testing._encodings import malformed_messages, stream_messages, wire_messages
from ibticks.testing._v2 import json_values, messages, ticks, timestamps

__all__ = [
    "json_values",
    "malformed_messages",
    "messages",
    "stream_messages",
    "ticks",
    "timestamps",
    "wire_messages",
]
