"""Match the columns of a file with the columns of a tick, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ibticks.errors import InputError, UnknownColumnError
from ibticks.schema import check_tick_type, list_columns
from ibticks.tables._names import (
    COLUMN_NAMES,
    CONTRACT_ID_NAMES,
    CONTRACT_TERM_NAMES,
    DATE_NAMES,
    INSTANT_NAMES,
    METADATA_NAMES,
    NANOSECOND_NAMES,
    OTHER_ID_NAMES,
    ROOT_SYMBOL_NAMES,
    SIDE_EXCHANGE_NAMES,
    SYMBOL_NAMES,
    SYMBOL_SUFFIX_NAMES,
    TIME_OF_DAY_NAMES,
    Preset,
    find_preset,
    plain_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = [
    "ColumnMapping",
    "InstrumentColumn",
    "TimeNames",
    "describe_mapping",
    "match_columns",
    "other_prices",
    "time_names",
]

_ZONE_IN_BRACKETS: Final = re.compile(
    r"\s*[(\[]\s*(utc|gmt|z|[a-z]{0,3}t|local|exchange|[a-z_]+/[a-z_/]+)\s*[)\]]\s*$", re.IGNORECASE
)
_ZONE_BEHIND: Final = re.compile(r"(?<=[a-z0-9])[ _.-](utc|gmt|et|est|edt)$", re.IGNORECASE)
_ZONE_ATTACHED: Final = re.compile(r"^(.*)(utc|gmt)$", re.IGNORECASE)
_REQUIRED: Final = {
    "last": ("price",),
    "all_last": ("price",),
    "bid_ask": ("bid_price", "ask_price"),
    "mid_point": ("mid_price",),
}

# Prices whose presence shows that a row without those above is a tick of another type.
_PRICES_OF_OTHERS: Final = {
    "last": ("bid_price", "ask_price"),
    "all_last": ("bid_price", "ask_price"),
    "bid_ask": ("price",),
    "mid_point": (),
}
_ON_QUOTES: Final = ("exchange", "conditions")
_METADATA_PREFIX: Final = "metadata."
InstrumentRole: TypeAlias = Literal["contract_id", "symbol", "id", "term"]


@dataclass(frozen=True, slots=True)
class InstrumentColumn:
    """A value of a file that names the instrument of a row.

    Attributes
    ----------
    role : {"contract_id", "symbol", "id", "term"}
        IB's contract id, a symbol, a name or number that only the source of the file knows, or a
        term of the contract, such as its expiry.
    sources : tuple of str
        Column of the file; for a symbol also a root and a suffix.
    """

    role: InstrumentRole
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimeNames:
    """Columns of a file that may hold times, by their names.

    Attributes
    ----------
    instants : tuple of tuple of str
        Columns that may hold a day and a time of day, in tiers, best first.
    dates, times_of_day, nanoseconds : tuple of str
        Columns that may hold one part of a time.
    zones : dict of str to str
        Zone that the name of a column says: ``"UTC"``, a name of the time zone database, or an
        abbreviation such as ``"ET"``.
    """

    instants: tuple[tuple[str, ...], ...]
    dates: tuple[str, ...]
    times_of_day: tuple[str, ...]
    nanoseconds: tuple[str, ...]
    zones: dict[str, str]

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that may hold a time or a part of one."""
        tiers = (name for tier in self.instants for name in tier)
        return tuple(dict.fromkeys([*tiers, *self.dates, *self.times_of_day, *self.nanoseconds]))


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Columns of a file, matched with those of a tick.

    Attributes
    ----------
    columns : dict of str to tuple of str
        Column of a tick to the columns of the file that it is read from: one, or for
        ``timestamp`` a date, a time of day and maybe nanoseconds.
    metadata : dict of str to str
        Key of the column ``metadata`` to column of the file.
    instruments : tuple of InstrumentColumn
    ignored : tuple of str
        Columns of the file that are not read.
    preset : Preset or None
    zone : str or None
        Zone that the name of the time column says.
    """

    columns: dict[str, tuple[str, ...]]
    metadata: dict[str, str]
    instruments: tuple[InstrumentColumn, ...]
    ignored: tuple[str, ...]
    preset: Preset | None = None
    zone: str | None = None

    def described(self) -> dict[str, tuple[str, ...]]:
        """Return what is read from where, metadata as ``metadata.KEY``."""
        metadata = {f"{_METADATA_PREFIX}{key}": (name,) for key, name in self.metadata.items()}
        return {**self.columns, **metadata}

    def sources(self) -> list[str]:
        """Return the columns of the file that are read, each once."""
        groups = [
            *self.columns.values(),
            *((name,) for name in self.metadata.values()),
            *(column.sources for column in self.instruments),
        ]
        return list(dict.fromkeys(name for names in groups for name in names))


def describe_mapping(
    columns: Iterable[str], tick_type: str, mapping: Mapping[str, str | None] | None = None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Say which columns of a file an import would read, and as what, judged by their names.

    An import looks at the values, too: a column named ``timestamp`` that holds times of day is
    joined with a date.

    Parameters
    ----------
    columns : iterable of str
        Columns of the file.
    tick_type : str
        What the rows are to become; only what such a tick carries is looked for.
    mapping : mapping of str to str or None, optional
        Column of a tick, or ``metadata.KEY``, to column of the file, which goes before what the
        names suggest; ``"A+B"`` joins a date and a time of day; None leaves the column out.

    Returns
    -------
    mapped : dict of str to tuple of str
        Column of a tick to the columns of the file that it is read from: one, or for ``timestamp``
        a date and a time of day.
    ignored : list of str
        Columns of the file that are not read.

    Raises
    ------
    UnknownTickTypeError
        If IB has no such tick type.
    UnknownColumnError
        If ``mapping`` names a column that such a tick does not have.
    InputError
        If the file lacks a column that ``mapping`` names, or one that every such tick needs; the
        message lists what the file has.

    Examples
    --------
    >>> describe_mapping(["Date", "Time", "Last", "Volume", "flags"], "last")
    ({'timestamp': ('Date', 'Time'), 'price': ('Last',), 'size': ('Volume',)}, ['flags'])
    >>> describe_mapping(["t", "Close"], "last", {"timestamp": "t", "price": "Close"})
    ({'timestamp': ('t',), 'price': ('Close',)}, [])
    """
    matched = match_columns(columns, tick_type, mapping)
    return matched.described(), list(matched.ignored)


def match_columns(
    columns: Iterable[str],
    tick_type: str,
    mapping: Mapping[str, str | None] | None = None,
    preset: str | None = None,
    *,
    timestamp: tuple[tuple[str, ...], str | None] | None = None,
) -> ColumnMapping:
    """Match the columns of a file with those of a tick.

    Parameters
    ----------
    columns, tick_type, mapping
        As for :func:`describe_mapping`.
    preset : str, optional
        Name of a preset; by default the one whose signatures the columns match.
    timestamp : tuple, optional
        Columns that ``timestamp`` is read from and the zone that their names say, where the values
        have decided that.

    Raises
    ------
    UnknownTickTypeError, UnknownColumnError, InputError
        As for :func:`describe_mapping`; also if two columns have the same name but for case and
        punctuation, and one of them would be read.
    """
    file_columns = list(columns)
    carried = [*list_columns([check_tick_type(tick_type)])]
    carried += [name for name in _ON_QUOTES if tick_type == "bid_ask"]
    explicit = dict(mapping or {})
    plain = _Plain(file_columns)
    detected = find_preset(plain.names, preset)
    _check_mapping(explicit, carried, file_columns, tick_type)
    assigned = {
        name
        for tick_column, source in explicit.items()
        if source and not tick_column.startswith(_METADATA_PREFIX)
        for name in _split(source, file_columns)
    }

    mapped: dict[str, tuple[str, ...]] = {}
    times = time_names(file_columns, detected, exclude=assigned)
    zone: str | None = None
    for name in carried:
        if name in explicit:
            source = explicit[name]
            if source is not None and name != "contract_id":
                mapped[name] = _split(source, file_columns)
        elif name == "timestamp":
            sources = timestamp[0] if timestamp else _time_by_name(times)
            if sources:
                mapped[name] = sources
        elif name != "contract_id" and not (detected and name in detected.unread):
            own = detected.names.get(name, ()) if detected else ()
            used = {*assigned, *mapped.get("timestamp", ())}
            if source := plain.first((*own, *COLUMN_NAMES[name]), used):
                mapped[name] = (source,)
    if "timestamp" in mapped:
        zone = timestamp[1] if timestamp else _zone(mapped["timestamp"], times.zones)
    lacking = [name for name in ("timestamp", *_REQUIRED[tick_type]) if name not in mapped]
    if lacking:
        raise InputError(
            f"no column for {', '.join(lacking)}: the file has {', '.join(file_columns)}; say "
            f"which it is with mapping={{{lacking[0]!r}: ...}}",
            column=lacking[0],
        )
    metadata = _metadata(plain, explicit, tick_type, assigned)
    instruments = _instruments(plain, explicit, assigned)
    result = ColumnMapping(mapped, metadata, instruments, (), detected, zone)
    read = set(result.sources())
    ignored = tuple(name for name in file_columns if name not in read)
    return ColumnMapping(mapped, metadata, instruments, ignored, detected, zone)


def other_prices(
    columns: Iterable[str], tick_type: str, matched: ColumnMapping
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns of prices that every such tick has, and those of other tick types.

    Examples
    --------
    >>> names = ["time", "price", "bid", "ask"]
    >>> other_prices(names, "last", match_columns(names, "last"))
    (('price',), ('bid', 'ask'))
    """
    own = tuple(source for name in _REQUIRED[tick_type] for source in matched.columns[name])
    read = set(matched.sources())
    presets = matched.preset.names if matched.preset else {}
    wanted = {
        plain
        for name in _PRICES_OF_OTHERS[tick_type]
        for plain in (*presets.get(name, ()), *COLUMN_NAMES[name])
    }
    return own, tuple(name for name in columns if plain_name(name) in wanted and name not in read)


def time_names(
    columns: Iterable[str], preset: Preset | None = None, exclude: Iterable[str] = ()
) -> TimeNames:
    """Find the columns that may hold times, by name.

    Examples
    --------
    >>> time_names(["Date", "Time (ET)", "Price"]).times_of_day
    ('Time (ET)',)
    """
    others = set(exclude)
    bases: dict[str, list[str]] = {}
    zones: dict[str, str] = {}
    for name in columns:
        if name in others:
            continue
        base, zone = _without_zone(name)
        bases.setdefault(base, []).append(name)
        if zone:
            zones[name] = zone

    def with_base(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for base in names for name in bases.get(base, ())))

    tiers = [with_base(preset.names.get("timestamp", ()))] if preset else []
    # A name that says UTC leaves the least to guess.
    flat = [base for tier in INSTANT_NAMES for base in tier]
    tiers.append(tuple(name for name in with_base(flat) if zones.get(name) == "UTC"))
    tiers += [with_base(tier) for tier in INSTANT_NAMES]
    seen: set[str] = set()
    instants = []
    for tier in tiers:
        fresh = tuple(name for name in tier if name not in seen)
        seen.update(fresh)
        if fresh:
            instants.append(fresh)
    return TimeNames(
        tuple(instants),
        with_base(DATE_NAMES),
        with_base(TIME_OF_DAY_NAMES),
        with_base(NANOSECOND_NAMES),
        zones,
    )


class _Plain:
    """Columns of a file by their plain names."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns: dict[str, list[str]] = {}
        for name in columns:
            self._columns.setdefault(plain_name(name), []).append(name)

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def first(self, names: Iterable[str], exclude: Iterable[str] = ()) -> str | None:
        """Return the column with the first of these plain names that the file has."""
        others = set(exclude)
        for name in names:
            same = [column for column in self._columns.get(name, ()) if column not in others]
            if len(same) > 1:
                raise InputError(
                    f"the columns {', '.join(map(repr, same))} differ only in case or "
                    f"punctuation: say which is meant with mapping={{...: {same[0]!r}}}",
                    column=same[0],
                )
            if same:
                return same[0]
        return None


def _without_zone(name: str) -> tuple[str, str | None]:
    """Return the plain name of a time column, and the zone that the rest of the name says."""
    for pattern in (_ZONE_IN_BRACKETS, _ZONE_BEHIND):
        if match := pattern.search(name):
            return plain_name(name[: match.start()]), _zone_of(match.group(1))
    plain = plain_name(name)
    if (match := _ZONE_ATTACHED.match(plain)) and match.group(1):
        return match.group(1), "UTC"
    return plain, None


def _zone_of(text: str) -> str:
    if text.lower() in ("utc", "gmt", "z"):
        return "UTC"
    return text if "/" in text else text.upper()


def _zone(sources: Iterable[str], zones: Mapping[str, str]) -> str | None:
    stated_zones = {zones[name] for name in sources if name in zones}
    return stated_zones.pop() if len(stated_zones) == 1 else None


def _time_by_name(times: TimeNames) -> tuple[str, ...]:
    """Choose the time column where there are no values to look at."""
    if not times.instants:
        # Half a time, which the values will show.
        return (times.dates or times.times_of_day)[:1]
    best = times.instants[0][0]
    dates = [name for name in times.dates if _without_zone(name)[0] != "dt"]
    halves = [name for name in times.times_of_day if _without_zone(name)[0] != "ts"]
    names_half = _without_zone(best)[0] in ("time", *DATE_NAMES) and best not in times.zones
    if dates and halves and (names_half or best in dates or best in halves):
        days = [name for name in halves if _without_zone(name)[0] != "timestamp"]
        if days and _without_zone(best)[0] != "timestamp":
            return (dates[0], days[0])
    return (best,)


def _check_mapping(
    mapping: Mapping[str, str | None], carried: list[str], file_columns: list[str], tick_type: str
) -> None:
    for name, source in mapping.items():
        key = name.removeprefix(_METADATA_PREFIX)
        known = name in carried or name == "symbol" or (key != name and key)
        if not known:
            raise UnknownColumnError(
                f"mapping names {name!r}, which no {tick_type} tick has: use {', '.join(carried)}, "
                f"symbol or metadata.KEY",
                column=name,
            )
        sources = _split(source, file_columns) if source else ()
        lacking = [column for column in sources if column not in file_columns]
        if lacking:
            raise InputError(
                f"mapping reads {name} from {lacking[0]!r}, which the file lacks: it has "
                f"{', '.join(file_columns)}",
                column=lacking[0],
            )
        if source and len(_split(source, file_columns)) > 1 and name not in ("timestamp", "symbol"):
            raise InputError(
                f"mapping joins columns for {name}: only timestamp and symbol can be joined",
                column=name,
            )


def _split(source: str, file_columns: list[str]) -> tuple[str, ...]:
    """Return the columns that ``"A+B"`` joins, unless one column is named so."""
    if source in file_columns or "+" not in source:
        return (source,)
    return tuple(name.strip() for name in source.split("+"))


def _metadata(
    plain: _Plain, mapping: Mapping[str, str | None], tick_type: str, assigned: set[str]
) -> dict[str, str]:
    wanted = dict(METADATA_NAMES)
    if tick_type == "bid_ask":
        wanted |= SIDE_EXCHANGE_NAMES
    sources: dict[str, str] = {}
    for key, names in wanted.items():
        if f"{_METADATA_PREFIX}{key}" not in mapping and (source := plain.first(names, assigned)):
            sources[key] = source
    for name, source in mapping.items():
        if name.startswith(_METADATA_PREFIX) and source is not None:
            sources[name.removeprefix(_METADATA_PREFIX)] = source
    return sources


def _instruments(
    plain: _Plain, mapping: Mapping[str, str | None], assigned: set[str]
) -> tuple[InstrumentColumn, ...]:
    columns: list[InstrumentColumn] = []
    if "contract_id" in mapping:
        if (source := mapping["contract_id"]) is not None:
            columns.append(InstrumentColumn("contract_id", (source,)))
    else:
        names = (plain.first([name], assigned) for name in CONTRACT_ID_NAMES)
        columns += [InstrumentColumn("contract_id", (name,)) for name in names if name]
    if "symbol" in mapping:
        if (source := mapping["symbol"]) is not None:
            columns.append(InstrumentColumn("symbol", tuple(source.split("+"))))
        return tuple(columns)
    if root := plain.first(ROOT_SYMBOL_NAMES, assigned):
        suffix = plain.first(SYMBOL_SUFFIX_NAMES, assigned)
        columns.append(InstrumentColumn("symbol", (root, suffix) if suffix else (root,)))
    names_by_role: tuple[tuple[InstrumentRole, tuple[str, ...]], ...] = (
        ("symbol", SYMBOL_NAMES),
        ("id", OTHER_ID_NAMES),
        ("term", CONTRACT_TERM_NAMES),
    )
    for role, role_names in names_by_role:
        for name in role_names:
            if source := plain.first([name], assigned):
                columns.append(InstrumentColumn(role, (source,)))
    return tuple(columns)
