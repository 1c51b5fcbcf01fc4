import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamMessage(_message.Message):
    __slots__ = ("type", "stream_id", "timestamp", "tick_data", "error_data", "complete_data", "info_data", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TICK_DATA_FIELD_NUMBER: _ClassVar[int]
    ERROR_DATA_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_DATA_FIELD_NUMBER: _ClassVar[int]
    INFO_DATA_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    type: str
    stream_id: str
    timestamp: _timestamp_pb2.Timestamp
    tick_data: TickData
    error_data: ErrorData
    complete_data: CompleteData
    info_data: InfoData
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, type: _Optional[str] = ..., stream_id: _Optional[str] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tick_data: _Optional[_Union[TickData, _Mapping]] = ..., error_data: _Optional[_Union[ErrorData, _Mapping]] = ..., complete_data: _Optional[_Union[CompleteData, _Mapping]] = ..., info_data: _Optional[_Union[InfoData, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class TickData(_message.Message):
    __slots__ = ("contract_id", "tick_type", "price", "size", "bid_price", "bid_size", "ask_price", "ask_size", "mid_price", "exchange", "conditions", "sequence", "past_limit", "unreported", "bid_past_low", "ask_past_high", "exchange_time")
    CONTRACT_ID_FIELD_NUMBER: _ClassVar[int]
    TICK_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BID_PRICE_FIELD_NUMBER: _ClassVar[int]
    BID_SIZE_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICE_FIELD_NUMBER: _ClassVar[int]
    ASK_SIZE_FIELD_NUMBER: _ClassVar[int]
    MID_PRICE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAST_LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNREPORTED_FIELD_NUMBER: _ClassVar[int]
    BID_PAST_LOW_FIELD_NUMBER: _ClassVar[int]
    ASK_PAST_HIGH_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    contract_id: int
    tick_type: str
    price: float
    size: float
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float
    mid_price: float
    exchange: str
    conditions: _containers.RepeatedScalarFieldContainer[str]
    sequence: int
    past_limit: bool
    unreported: bool
    bid_past_low: bool
    ask_past_high: bool
    exchange_time: int
    def __init__(self, contract_id: _Optional[int] = ..., tick_type: _Optional[str] = ..., price: _Optional[float] = ..., size: _Optional[float] = ..., bid_price: _Optional[float] = ..., bid_size: _Optional[float] = ..., ask_price: _Optional[float] = ..., ask_size: _Optional[float] = ..., mid_price: _Optional[float] = ..., exchange: _Optional[str] = ..., conditions: _Optional[_Iterable[str]] = ..., sequence: _Optional[int] = ..., past_limit: _Optional[bool] = ..., unreported: _Optional[bool] = ..., bid_past_low: _Optional[bool] = ..., ask_past_high: _Optional[bool] = ..., exchange_time: _Optional[int] = ...) -> None: ...

class ErrorData(_message.Message):
    __slots__ = ("code", "message", "recoverable", "details")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECOVERABLE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    recoverable: bool
    details: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., recoverable: _Optional[bool] = ..., details: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CompleteData(_message.Message):
    __slots__ = ("reason", "total_ticks", "duration_seconds", "final_sequence")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TICKS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FINAL_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    total_ticks: int
    duration_seconds: float
    final_sequence: int
    def __init__(self, reason: _Optional[str] = ..., total_ticks: _Optional[int] = ..., duration_seconds: _Optional[float] = ..., final_sequence: _Optional[int] = ...) -> None: ...

class InfoData(_message.Message):
    __slots__ = ("status", "contract_info", "stream_config")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_INFO_FIELD_NUMBER: _ClassVar[int]
    STREAM_CONFIG_FIELD_NUMBER: _ClassVar[int]
    status: str
    contract_info: ContractInfo
    stream_config: StreamConfig
    def __init__(self, status: _Optional[str] = ..., contract_info: _Optional[_Union[ContractInfo, _Mapping]] = ..., stream_config: _Optional[_Union[StreamConfig, _Mapping]] = ...) -> None: ...

class ContractInfo(_message.Message):
    __slots__ = ("symbol", "exchange", "currency", "contract_type")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_TYPE_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    exchange: str
    currency: str
    contract_type: str
    def __init__(self, symbol: _Optional[str] = ..., exchange: _Optional[str] = ..., currency: _Optional[str] = ..., contract_type: _Optional[str] = ...) -> None: ...

class StreamConfig(_message.Message):
    __slots__ = ("tick_type", "limit", "timeout_seconds")
    TICK_TYPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    tick_type: str
    limit: int
    timeout_seconds: int
    def __init__(self, tick_type: _Optional[str] = ..., limit: _Optional[int] = ..., timeout_seconds: _Optional[int] = ...) -> None: ...

class FileHeader(_message.Message):
    __slots__ = ("version", "start_time", "end_time", "contract_id", "tick_type", "message_count", "compression", "crc32c", "sealed", "body_bytes", "writer", "padding")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ID_FIELD_NUMBER: _ClassVar[int]
    TICK_TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    version: int
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    contract_id: int
    tick_type: str
    message_count: int
    compression: str
    crc32c: int
    sealed: bool
    body_bytes: int
    writer: str
    padding: bytes
    def __init__(self, version: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., contract_id: _Optional[int] = ..., tick_type: _Optional[str] = ..., message_count: _Optional[int] = ..., compression: _Optional[str] = ..., crc32c: _Optional[int] = ..., sealed: _Optional[bool] = ..., body_bytes: _Optional[int] = ..., writer: _Optional[str] = ..., padding: _Optional[bytes] = ...) -> None: ...
