"""Options, messages and signals that several commands share, and how results are shown."""

from __future__ import annotations

import functools
import inspect
import json
import re
import signal
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ibticks.errors import NoStoreError
from ibticks.selection import DEFAULT_MARKET, TimeRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderableType

    from ibticks.store import Store

__all__ = [
    "ALL_TIME",
    "EXIT_FINDINGS",
    "Dsn",
    "Json",
    "PlainConsole",
    "Root",
    "Zone",
    "console",
    "emit",
    "facts",
    "in_options",
    "instant",
    "listed",
    "notes",
    "opened",
    "printable",
    "size_text",
    "table",
    "time_range_options",
    "when_asked_to_end",
]

EXIT_FINDINGS: Final = 3
"""Exit code of ``verify``, ``gaps`` and ``backfill`` where they found or left something."""
Root = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        envvar="IBTICKS_STORE",
        help="Folder of the store.",
        show_default="the current folder, if it is one",
    ),
]
Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="IBTICKS_DSN",
        help="PostgreSQL server of the index; the embedded one by default.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Zone = Annotated[
    str | None,
    typer.Option("--tz", help="Time zone of times that do not say theirs."),
]
Period = Annotated[
    str | None, typer.Argument(help="last_hour, 2h30m, today, since_open and the like.")
]
ALL_TIME: Final = TimeRange()

_OBEYED: Final = ("Cc", "Cf", "Zl", "Zp")
"""Categories of characters that move the cursor, colour, or turn the direction of what follows."""


def printable(text: str) -> str:
    r"""Write control and formatting characters as escapes: a terminal would obey them.

    Examples
    --------
    >>> print(printable("A\x1b[2JB"))
    A\x1b[2JB
    """
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in _OBEYED
        else character.encode("unicode_escape").decode()
        for character in text
    )


class PlainConsole(Console):
    """A console on which no text is a command to the terminal, wherever it comes from."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render what is printed, with the control characters of its texts as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


_REWRITES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"mapping=\{'([^']+)': None\}", r"--map \1="),
        (r"mapping=\{'([^']+)': '([^']*)'\}", r"--map '\1=\2'"),
        (r"mapping=\{'([^']+)': \.\.\.\}", r"--map \1=COLUMN"),
        (r"mapping=\{\.\.\.: '([^']*)'\}", r"--map 'OURS=\1'"),
        (r"symbols=\{'([^']+)': \.\.\.\}", r"--map-symbol '\1=ID' or --symbols FILE"),
        (r"symbols=\{'([^']+)': (\d+)\}", r"--map-symbol '\1=\2'"),
        (r"\bsymbols=", "--map-symbol"),
        (r"\bmapping (names|reads|joins)\b", r"--map \1"),
        (r"timestamp_unit='(\w+)', '(\w+)', '(\w+)' or '(\w+)'", r"--unit \1, \2, \3 or \4"),
        (r"decimal='\.' or decimal=','", "--decimal . or --decimal ,"),
        (r"\bdecimal=(?=[\s,;.:]|$)", "--decimal"),
        (r"\bcontract_id=(\d+)", r"--contract \1"),
        (r"\bcontract_id=(?=[\s,;.:]|$)", "--contract"),
        (r"\btick_type='(\w+)'", r"--type \1"),
        (r"\btick_type=(?=[\s,;.:]|$)", "--type"),
        (r"\btz='([^']+)'", r"--tz \1"),
        (r"\btz=(?=[\s,;.:]|$)", "--tz"),
        (r"\btimestamp_unit=(?=[\s,;.:]|$)", "--unit"),
        (r"\btime_format='([^']+)'", r"--format \1"),
        (r"\btime_format=(?=[\s,;.:]|$)", "--format"),
        (r"\bskip_bad=True", "--skip-bad"),
    )
)


def in_options(message: str) -> str:
    """Return an error message with options where it names arguments.

    Examples
    --------
    >>> in_options("say which with tz=, for example tz='UTC'")
    'say which with --tz, for example --tz UTC'
    >>> in_options("say which with mapping={'timestamp': 'date+time'}")
    "say which with --map 'timestamp=date+time'"
    """
    for pattern, replacement in _REWRITES:
        message = pattern.sub(replacement, message)
    return message


@contextmanager
def when_asked_to_end(act: Callable[[], object]) -> Iterator[None]:
    """Do something, in the main thread, each time this process is asked to end meanwhile."""
    before = {
        number: signal.signal(number, lambda *_: act())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def time_range_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument and the options of a time range.

    They take the place of its parameter ``time_range``, a
    :class:`~ibticks.selection.TimeRange`.
    """
    hints = get_type_hints(command, globals() | command.__globals__, include_extras=True)
    options = inspect.signature(_time_range, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "time_range":
            parameters += options.values()
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        time_range = _time_range(**{name: values.pop(name) for name in options})
        command(time_range=time_range, **values)

    run.__annotations__ = {value.name: value.annotation for value in parameters} | {"return": None}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _time_range(
    period: Period = None,
    start: Annotated[str | None, typer.Option(help="From this time on.")] = None,
    end: Annotated[str | None, typer.Option(help="Up to, not including, this time.")] = None,
    tz: Zone = None,
    session: Annotated[str | None, typer.Option(help="regular, pre_market, globex, ...")] = None,
    date: Annotated[str | None, typer.Option(help="Trading day of the session.")] = None,
    sessions: Annotated[int | None, typer.Option(help="Number of sessions back from now.")] = None,
    market: Annotated[
        str, typer.Option(help="US, UK, JP, CME, or the name of a calendar.")
    ] = DEFAULT_MARKET,
    now: Annotated[
        str | None, typer.Option(help="Instead of the clock; last_tick is the last one stored.")
    ] = None,
) -> TimeRange:
    return TimeRange(period, start, end, tz, session, date, sessions, market, now)


console = PlainConsole()
notes = PlainConsole(stderr=True)
_PIPE_WIDTH: Final = 10_000


def opened(root: str | None, dsn: str | None, *, create: bool = False) -> Store:
    """The store a command works on: the one named, or the current folder, if it is one.

    Parameters
    ----------
    root : str or None
        What ``--store`` or ``IBTICKS_STORE`` says.
    dsn : str or None
    create : bool
        Whether a store that is named may be begun. The current folder never becomes one:
        without ``--store``, ticks would go where they are not looked for.

    Raises
    ------
    NoStoreError
    """
    from ibticks.store import open_store

    if root is not None:
        return open_store(root, dsn=dsn, create=create)
    try:
        return open_store(".", dsn=dsn, create=False)
    except NoStoreError as error:
        begun = " (one is begun there, where there is none)" if create else ""
        raise NoStoreError(
            f"the current folder, {Path.cwd()}, is no store: name one with --store FOLDER, or with "
            f"IBTICKS_STORE{begun}",
            **error.context,
        ) from error


def emit(value: Any) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, default=str)
    sys.stdout.write("\n")


def listed(text: str) -> list[str]:
    """Split a list of a user at its commas.

    Examples
    --------
    >>> listed("IBM, BAC")
    ['IBM', 'BAC']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def facts(about: Mapping[str, object]) -> None:
    """Print names and values, one a line; ``size`` is in bytes."""
    width = max(map(len, about))
    for name, value in about.items():
        label = name.replace("_", " ").rjust(width)
        console.print(
            Text.assemble((label, "bold"), "  ", printable(_shown(name, value))), soft_wrap=True
        )


def _shown(name: str, value: object) -> str:
    match name, value:
        case "size", int():
            return size_text(value)
        case _, None:
            return "–"
        case _, int() if name != "contract_id" and not isinstance(value, bool):
            return f"{value:,}"
    return str(value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns whose name begins with ``>`` are aligned to the right."""
    shown = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in columns:
        right = name.startswith(">")
        shown.add_column(name.removeprefix(">"), justify="right" if right else "left")
    for row in rows:
        shown.add_row(*(Text(printable(str(cell))) for cell in row))
    # A pipe has no width: what a program reads is not cut.
    (console if console.is_terminal else PlainConsole(width=_PIPE_WIDTH)).print(shown)


def instant(ns: int | None) -> str:
    """A time for a person: RFC 3339 in UTC, or a dash."""
    from ibticks.calendar import format_ns

    return "–" if ns is None else format_ns(ns)


def size_text(size: int) -> str:
    """Bytes for a person.

    Examples
    --------
    >>> size_text(1_500_000)
    '1.5 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size} B"
