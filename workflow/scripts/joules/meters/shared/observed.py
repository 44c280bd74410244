"""What readings of one channel show of it: power, step, update interval, round trip, energy."""

import dataclasses
import itertools
import statistics
from collections.abc import Sequence

from joules.meters.meter import Reading

SAME_J = 1e-9  # below it, two numbers differ by rounding alone


@dataclasses.dataclass(frozen=True)
class Observed:
    """What was seen of one channel; None where the readings do not show it.

    Attributes:
        readings: how many there were.
        seconds: from the first to the last.
        energy_j: by its counter, or the integral of its power by the trapezoid rule.
        mean_power_w: that energy over that time.
        step: the smallest change of its number that was seen, in `unit`.
        unit: J, or W of a channel that tells power alone.
        update_interval_s: the median time between changes; no shorter than the asking.
        round_trip_s: the median.
        slowest_round_trip_s: the largest.
    """

    readings: int
    seconds: float
    energy_j: float | None
    mean_power_w: float | None
    step: float | None
    unit: str
    update_interval_s: float | None
    round_trip_s: float | None
    slowest_round_trip_s: float | None


def observe(readings: Sequence[Reading]) -> Observed:
    """Return what the readings of one channel show, in the order in which they were taken."""
    counted = [(each.moment_s, each.energy_j) for each in readings if each.energy_j is not None]
    powered = [(each.moment_s, each.power_w) for each in readings if each.power_w is not None]
    series = counted if len(counted) == len(readings) else powered
    seconds = readings[-1].moment_s - readings[0].moment_s if readings else 0.0
    energy_j = None
    if len(series) > 1:
        energy_j = counted[-1][1] - counted[0][1] if series is counted else _integral_j(powered)
    changes = [
        (later_s, abs(after - before))
        for (_, before), (later_s, after) in itertools.pairwise(series)
        if abs(after - before) > SAME_J
    ]
    moments_s = [moment_s for moment_s, _ in changes]
    between_s = [later - earlier for earlier, later in itertools.pairwise(moments_s)]
    trips_s = [each.round_trip_s for each in readings if each.round_trip_s is not None]
    return Observed(
        len(readings),
        seconds,
        energy_j,
        energy_j / seconds if energy_j is not None and seconds > 0 else None,
        min((step for _, step in changes), default=None),
        "J" if series is counted else "W",
        statistics.median(between_s) if between_s else None,
        statistics.median(trips_s) if trips_s else None,
        max(trips_s, default=None),
    )


def _integral_j(powered: Sequence[tuple[float, float]]) -> float:
    return sum(
        (before_w + after_w) / 2 * (after_s - before_s)
        for (before_s, before_w), (after_s, after_w) in itertools.pairwise(powered)
    )
