"""What a backfill did, as values and as a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibticks.coverage import CoverageInterval

__all__ = ["BackfillResult", "Filled", "Remaining"]


@dataclass(frozen=True, slots=True)
class Filled:
    """A range of time of a stream that was filled, and with how many ticks.

    Attributes
    ----------
    contract_id : int
    tick_type : str
    start_ns, end_ns : int
        Half-open, UTC nanoseconds.
    ticks : int
        Those stored; what the store held already does not count.
    """

    contract_id: int
    tick_type: str
    start_ns: int
    end_ns: int
    ticks: int

    def followed_by(self, part: Filled) -> bool:
        """Whether another one begins where this one ends."""
        return (self.contract_id, self.tick_type, self.end_ns) == (
            part.contract_id,
            part.tick_type,
            part.start_ns,
        )


@dataclass(frozen=True, slots=True)
class Remaining:
    """A gap, or a part of one, that was not filled.

    Attributes
    ----------
    gap : Stretch
    why : str
    """

    gap: CoverageInterval
    why: str


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """What a backfill did; printed, a report.

    Attributes
    ----------
    gaps : tuple of Stretch
        What there was to be filled, by stream and time.
    filled : tuple of Filled
        What was, each range with how many ticks were stored.
    remaining : tuple of Remaining
        What was not, and why.
    requests : int
        Pages asked for.
    dry_run : bool
        Whether nothing was asked for.
    """

    gaps: tuple[CoverageInterval, ...] = ()
    filled: tuple[Filled, ...] = ()
    remaining: tuple[Remaining, ...] = ()
    requests: int = 0
    dry_run: bool = False

    @property
    def ticks(self) -> int:
        """How many were stored."""
        return sum(each.ticks for each in self.filled)

    def as_json(self) -> dict[str, Any]:
        """Its values as JSON can hold them, times in ISO 8601."""
        from ibticks.calendar import format_ns

        return {
            "dry_run": self.dry_run,
            "ticks": self.ticks,
            "requests": self.requests,
            "gaps": [gap.as_json() for gap in self.gaps],
            "filled": [
                {
                    "contract_id": each.contract_id,
                    "tick_type": each.tick_type,
                    "start": format_ns(each.start_ns),
                    "end": format_ns(each.end_ns),
                    "ticks": each.ticks,
                }
                for each in self.filled
            ],
            "remaining": [{**each.gap.as_json(), "why": each.why} for each in self.remaining],
        }

    def __str__(self) -> str:
        from ibticks.calendar import format_ns

        gaps = f"{len(self.gaps)} gap{'s' * (len(self.gaps) != 1)}"
        if self.dry_run:
            head, each = f"{gaps} to fill", [(gap, gap.reason) for gap in self.gaps]
        else:
            head = f"{gaps}, filled with {self.ticks:,} ticks in {self.requests:,} requests"
            each = [(left.gap, left.why) for left in self.remaining]
            head += f", {len(each)} left" if each else ""
        return "\n".join(
            [
                head,
                *(
                    f"  {gap.contract_id} {gap.tick_type} {format_ns(gap.start_ns)} to "
                    f"{format_ns(gap.end_ns)} {gap.state}{why and f': {why}'}"
                    for gap, why in each
                ),
            ]
        )
