"""The schema: generated code that is up to date, numbers that never change, files any one reads."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from ibticks import tick_stream_pb2
from ibticks.config import resource
from ibticks.format import Header, encode_frame, encode_message
from ibticks.format._encode import encode
from ibticks.schema import COLUMNS, FieldType

from .oracle import columns_of

if TYPE_CHECKING:
    from ibticks.schema import TickColumns

PROTO = resource("proto")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the current output of the protobuf compiler."""
    folder = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "tick_stream.proto"]
    out = [f"--python_out={folder}", f"--pyi_out={folder}"]
    subprocess.run([*command, *out, f"--descriptor_set_out={folder / 'set'}"], check=True)
    return folder


def test_the_generated_code_is_that_of_the_schema(compiled: Path) -> None:
    (file,) = FileDescriptorSet.FromString((compiled / "set").read_bytes()).file
    assert file.package == "ib_stream"
    generated = type(file).FromString(tick_stream_pb2.DESCRIPTOR.serialized_pb)
    for message in file.message_type:
        for part in (message, *message.nested_type):
            for field in part.field:
                field.ClearField("json_name")  # which generated code leaves out
    assert generated == file


@pytest.mark.parametrize("name", ["tick_stream_pb2.py", "tick_stream_pb2.pyi"])
def test_the_generated_files_are_those_of_the_pinned_compiler(compiled: Path, name: str) -> None:
    assert (compiled / name).read_text() == Path(tick_stream_pb2.__file__).with_name(
        name
    ).read_text()


# As published; a number that changes makes every older file unreadable.
NUMBERS = {
    "StreamMessage": "type stream_id timestamp tick_data error_data complete_data info_data "
    "metadata",
    "TickData": "contract_id tick_type price size bid_price bid_size ask_price ask_size mid_price "
    "exchange conditions sequence past_limit unreported bid_past_low ask_past_high exchange_time",
    "ErrorData": "code message recoverable details",
    "CompleteData": "reason total_ticks duration_seconds final_sequence",
    "InfoData": "status contract_info stream_config",
    "ContractInfo": "symbol exchange currency contract_type",
    "StreamConfig": "tick_type limit timeout_seconds",
    "FileHeader": "version start_time end_time contract_id tick_type message_count compression "
    "crc32c sealed body_bytes writer",
}


def test_field_numbers() -> None:
    messages = tick_stream_pb2.DESCRIPTOR.message_types_by_name
    assert list(messages) == list(NUMBERS)
    for name, fields in NUMBERS.items():
        expected = {field: number for number, field in enumerate(fields.split(), start=1)}
        if name == "FileHeader":
            expected["padding"] = 15
        assert {field.name: field.number for field in messages[name].fields} == expected


def test_fields_with_presence() -> None:
    tick = tick_stream_pb2.TickData.DESCRIPTOR
    without = {"contract_id", "tick_type", "conditions"}
    assert {field.name for field in tick.fields if not field.has_presence} == without


def test_the_columns_are_the_fields() -> None:
    top = tick_stream_pb2.StreamMessage.DESCRIPTOR.fields_by_name
    tick = tick_stream_pb2.TickData.DESCRIPTOR.fields_by_name
    kinds = {
        FieldType.UINT32: FieldDescriptor.TYPE_UINT32,
        FieldType.UINT64: FieldDescriptor.TYPE_UINT64,
        FieldType.SECONDS: FieldDescriptor.TYPE_INT64,
        FieldType.FLOAT: FieldDescriptor.TYPE_DOUBLE,
        FieldType.BOOL: FieldDescriptor.TYPE_BOOL,
        FieldType.STRING: FieldDescriptor.TYPE_STRING,
        FieldType.STRINGS: FieldDescriptor.TYPE_STRING,
        FieldType.TIME: FieldDescriptor.TYPE_MESSAGE,
        FieldType.MAP: FieldDescriptor.TYPE_MESSAGE,
    }
    for field in COLUMNS.values():
        described = tick.get(field.name) or top[field.name]
        assert (field.number, kinds[field.type]) == (described.number, described.type)
        assert field.nullable == (field.name in tick and described.has_presence)
    assert set(tick.keys()) <= {field.name for field in COLUMNS.values()}


READER = """
import json, struct, sys
import tick_stream_pb2 as pb

data = open(sys.argv[1], "rb").read()
frames, at = [], 0
while at < len(data):
    (size,) = struct.unpack_from(">I", data, at)
    frames.append(data[at + 4 : at + 4 + size])
    at += 4 + size
header = pb.FileHeader.FromString(frames[0])
told = [header.contract_id, header.tick_type, header.message_count]
for raw in frames[1:]:
    message = pb.StreamMessage.FromString(raw)
    if message.WhichOneof("message_data") == "tick_data":
        tick = message.tick_data
        told.append([message.timestamp.ToNanoseconds(), tick.price, tick.HasField("size"),
                     list(tick.conditions), message.stream_id, dict(message.metadata)])
    else:
        told.append([message.type, message.info_data.status])
print(json.dumps([told, "ibticks" in sys.modules]))
"""


def test_a_file_is_readable_with_the_schema_alone(compiled: Path, tmp_path: Path) -> None:
    def tick(time_ns: int, price: float) -> TickColumns:
        row = dict.fromkeys(field.name for field in COLUMNS.values()) | {"timestamp": time_ns}
        row |= {"contract_id": 8314, "tick_type": "last", "stream_id": "8314_last"}
        row |= {"price": int(np.float64(price).view(np.uint64)), "conditions": ["T", "37"]}
        return columns_of([row | {"metadata": {"source": "backfill"}}])

    info = {
        "type": "info",
        "stream_id": "8314_last",
        "timestamp": "2013-10-08T13:30:00Z",
        "data": {"status": "subscribed"},
    }
    first = 1_381_239_000_000_000_001
    file = tmp_path / "13_ticks.pb"
    file.write_bytes(
        Header(8314, "last", first, first + 1, 3).to_bytes()
        + encode(tick(first, 181.75))
        + encode_frame(encode_message(info))
        + encode(tick(first + 1, -0.0))
    )
    # Isolated, with nothing but the schema's code and the runtime on its path.
    runtime = Path(find_spec("google.protobuf").submodule_search_locations[0]).parents[1]
    run = f"import sys; sys.path[:0] = {[str(compiled), str(runtime)]!r}\n" + READER
    command = [sys.executable, "-I", "-c", run, str(file)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rest = [False, ["T", "37"], "8314_last", {"source": "backfill"}]
    ticks = [[first, 181.75, *rest], ["info", "subscribed"], [first + 1, 0.0, *rest]]
    assert json.loads(output) == [[8314, "last", 3, *ticks], False]
