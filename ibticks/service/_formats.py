"""The form in which ticks are asked for: format, columns, filter, number and order."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, Header, Query, Request
from starlette.exceptions import HTTPException

from ibticks.errors import InputError
from ibticks.frames import BufferCompression  # noqa: TC001 - FastAPI reads annotations
from ibticks.schema import COLUMNS, FieldType, check_columns

__all__ = ["MEDIA_TYPES", "OTHER_FORMATS", "Bound", "Form", "TickForm", "TickFormat"]

TickFormat: TypeAlias = Literal["json", "ndjson", "protobuf", "arrow", "parquet", "csv"]

MEDIA_TYPES: Final[dict[TickFormat, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "protobuf": "application/x-protobuf",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
}
"""Media type of each format."""

OTHER_FORMATS: Final[dict[str, Any]] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for name, media_type in MEDIA_TYPES.items()
    if name != "json"
}
"""Documentation of the responses that are not JSON."""

_OTHER_NAMES: Final[dict[str, TickFormat]] = {
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/protobuf": "protobuf",
}
_BOUND: Final = re.compile(r"\s*(\w+)\s*(>=|<=|!=|==|=|>|<)\s*([^\s<>=!]+)\s*", re.ASCII)
_COMPARISONS: Final[dict[str, Any]] = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
    "=": pc.equal,
    "==": pc.equal,
    "!=": pc.not_equal,
}
_INTEGERS: Final = {"sequence": (0, 2**64 - 1), "contract_id": (-(2**63), 2**63 - 1)}
"""Columns of integers, with the smallest and the largest value of their types."""

_MAX_DIGITS: Final = 30
_NUMERIC: Final = tuple(
    name for name, column in COLUMNS.items() if column.type is FieldType.FLOAT or name in _INTEGERS
)


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition on a numeric column.

    Attributes
    ----------
    column : str
    comparison : str
    value : int or float
        An int for a column of integers, which are compared exactly.
    """

    column: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Parse a condition.

        Raises
        ------
        InputError
            With the columns and comparisons there are.

        Examples
        --------
        >>> Bound.parse("price >= 180.5"), Bound.parse("sequence<9007199254740993")
        (Bound(column='price', comparison='>=', value=180.5),
         Bound(column='sequence', comparison='<', value=9007199254740993))
        """
        match = _BOUND.fullmatch(text)
        if match is None or match[1] not in _NUMERIC:
            raise InputError(
                f"where={text!r:.60}: write a column, a comparison and a number, as in "
                f"where=price>=180.5; columns are {', '.join(_NUMERIC)}, comparisons "
                f"{', '.join(_COMPARISONS)}"
            )
        column, comparison, number = match.groups()
        is_whole = column in _INTEGERS
        try:
            value = int(number[:_MAX_DIGITS]) if is_whole else float(number)
        except ValueError:
            value = math.nan
        if math.isnan(value) or (is_whole and len(number) > _MAX_DIGITS):
            raise InputError(
                f"where={text!r:.60}: {number!r:.30} is no {'whole ' * is_whole}number"
                f"{f' of at most {_MAX_DIGITS} digits' * is_whole}"
            )
        return cls(column, comparison, value)

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """Return for each row whether the condition holds; it does not for an absent value."""
        values = table[self.column]
        compared: Any = self.value
        if self.column in _INTEGERS:
            smallest, largest = _INTEGERS[self.column]
            # A number that the type does not have is beyond its smallest or its largest one.
            if not smallest <= self.value <= largest:
                is_below = self.value < smallest
                matches = self.comparison in (("!=", ">", ">=") if is_below else ("!=", "<", "<="))
                return pc.and_(pc.is_valid(values), matches)
            compared = pa.scalar(self.value, values.type)
        return pc.fill_null(_COMPARISONS[self.comparison](values, compared), False)


@dataclass(frozen=True, slots=True)
class TickForm:
    """The form of a response with ticks.

    Attributes
    ----------
    format : str
    columns : tuple of str or None
        None for those of the format: of the tick types for frames, all for messages.
    bounds : tuple of Bound
        All of them hold for each tick.
    limit : int or None
        Most ticks.
    is_descending : bool
        Whether the latest tick comes first.
    compression : {"none", "lz4", "zstd"}
        Of Arrow buffers and Parquet pages.
    has_coverage : bool
        Whether NDJSON begins with a line of the coverage.
    is_explained : bool
        Whether the response is the size of the answer, from the index, instead of the answer.
    is_head : bool
        Whether the response has headers only, and that size in them.
    """

    format: TickFormat = "json"
    columns: tuple[str, ...] | None = None
    bounds: tuple[Bound, ...] = ()
    limit: int | None = None
    is_descending: bool = False
    compression: BufferCompression = "none"
    has_coverage: bool = False
    is_explained: bool = False
    is_head: bool = False

    @property
    def is_whole(self) -> bool:
        """True if the response has every tick of the selection, in its order."""
        return not self.bounds and self.limit is None and not self.is_descending

    def filter(self, table: pa.Table) -> pa.Table:
        """Return the rows for which every bound holds."""
        for bound in self.bounds:
            table = table.filter(bound.mask(table))
        return table


def _form(
    request: Request,
    format: Annotated[  # noqa: A002 - the name of the parameter in the reference
        TickFormat | None,
        Query(description="Format of the ticks; by default that of `Accept`, or json."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        Query(
            description="Columns, with commas between them; of messages, the fields of `data`.",
            examples=[["timestamp,price,size"]],
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        Query(
            description="Bounds such as `price>=180.5`; several with commas between them all hold.",
            examples=[["price>=180.5,size>100"]],
        ),
    ] = None,
    limit: Annotated[int | None, Query(ge=0, le=2**53, description="Most ticks.")] = None,
    order: Annotated[
        Literal["asc", "desc"], Query(description="By time; `desc` begins with the latest tick.")
    ] = "asc",
    compression: Annotated[
        BufferCompression | None,
        Query(description="Of Arrow buffers (by default none) and Parquet pages (zstd)."),
    ] = None,
    coverage: Annotated[
        bool, Query(description="Whether NDJSON begins with a line of the coverage.")
    ] = False,
    explain: Annotated[
        bool,
        Query(description="Return rows, bytes and files of the answer, instead of the answer."),
    ] = False,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> TickForm:
    chosen = format or _negotiate(accept)
    return TickForm(
        chosen,
        None if columns is None else check_columns(_split(columns)),
        tuple(Bound.parse(text) for text in _split(where or ())),
        limit,
        order == "desc",
        compression or ("zstd" if chosen == "parquet" else "none"),
        coverage,
        explain,
        request.method == "HEAD",
    )


Form: TypeAlias = Annotated[TickForm, Depends(_form)]
"""Form of a response, as the parameters and headers of a request ask for it."""


def _split(values: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _negotiate(accept: str) -> TickFormat:
    """Return the format of the media type that a client prefers (RFC 9110, section 12.5.1).

    Of each format the most specific range that matches tells the quality. Of equal ones that with
    the more specific range is chosen, then the one that the client writes first, then JSON.

    Raises
    ------
    HTTPException
        With status 406, if there is none.

    Examples
    --------
    >>> _negotiate("text/csv;q=0.5, application/vnd.apache.arrow.stream")
    'arrow'
    >>> _negotiate("application/json;q=0, text/*, */*;q=0.1")
    'csv'
    """
    ranges = _parse_accept(accept)
    names = [(media_type, name) for name, media_type in MEDIA_TYPES.items()]
    # Another name of a media type counts only where a client writes it.
    names += [(other, name) for other, name in _OTHER_NAMES.items() if other in ranges]
    offers: list[tuple[float, int, int, TickFormat]] = []
    for media_type, name in names:
        generality = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        for rank, pattern in enumerate(generality):
            if pattern in ranges:
                quality, place = ranges[pattern]
                offers.append((-quality, rank, place, name))
                break
    best = min((offer for offer in offers if offer[0]), key=lambda offer: offer[:3], default=None)
    if best is None:
        raise HTTPException(
            406, f"Accept: {accept[:100]}: use one of {', '.join(MEDIA_TYPES.values())}, or format="
        )
    return best[3]


def _parse_accept(accept: str) -> dict[str, tuple[float, int]]:
    """Return quality and place of each media range; a quality that is no number is 0."""
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.lower().split(",")):
        media_range, *parameters = (value.strip() for value in part.split(";"))
        weights = [value[2:] for value in parameters if value.startswith("q=")]
        is_valid = all(_QUALITY.fullmatch(weight) for weight in weights)
        if media_range:
            quality = float(weights[0]) if weights and is_valid else float(is_valid)
            ranges.setdefault(media_range, (quality, place))
    return ranges or {"*/*": (1.0, 0)}


_QUALITY: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
