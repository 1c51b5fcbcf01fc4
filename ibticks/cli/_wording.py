"""Error messages in the words of the command line: options instead of Python arguments."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["in_options"]

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
