"""The meters of the configuration over one run: their tier, their energy per window, their rules.

What is said of the headline's meter can make a run invalid. A meter beside the headline loses its
own number where it failed, which is stated, and no other.
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from joules.core.conditions import Limits
from joules.core.energy import WALL, Energy
from joules.core.errors import UserError
from joules.core.known import Unknown, known
from joules.core.machine_facts import Component
from joules.core.meters import ChannelFacts, MeterFacts
from joules.core.values import EnergyChoice, Tier
from joules.measure.validity import Check, at_most, nothing_of, unchecked
from joules.meters.polled import LEAST_READINGS, LEAST_STEPS, Polled, Seen

OPENING_S: Final = 15.0  # that the headline's meter has for its first reading
LAST_S: Final = 5.0  # that the end of a run waits for one more reading of a meter that answers


class Metered(Protocol):
    """A window: its times, and the energies that are filled here."""

    start_monotonic_s: float
    energy_j: Energy
    energy_own_j: Energy
    meters_j: dict[str, float | None] | UnsetType

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def end_s(self) -> float: ...  # noqa: D102


class NamedMeters:
    """The meters of the configuration; `headline` is that of the whole machine, where it is it.

    Raises UserError, on creation, where the headline's meter gives no reading within `OPENING_S`,
    or is no meter of the whole machine.
    """

    def __init__(self, polled: Sequence[Polled], energy: EnergyChoice, limits: Limits) -> None:
        self.polled, self._limits = list(polled), limits
        self.wall = next((each for each in polled if each.entry.name == WALL), None)
        self.headline = self.wall if energy == WALL else None
        if energy == WALL:
            _require(self.wall)

    def tier(self) -> tuple[Tier, str]:
        """Return the tier of the headline's meter, and why it is that."""
        assert self.headline is not None
        meter, label = self.headline, self.headline.meter.LABEL
        if meter.counts:
            tier: Tier = "measured"
            reason = f"The energy of the whole machine is counted by a meter: {label}."
        else:
            tier = "sampled"
            reason = (
                f"The power of the whole machine is read every {meter.entry.every_s:g} s from a "
                f"meter, {label}, and integrated."
            )
        return tier, reason

    def component(self) -> dict[str, Component]:
        """Return the record's component `wall`; nothing without a meter of that name."""
        if self.wall is None:
            return {}
        if not self.wall.counters:
            return {WALL: Component("none")}
        ranges = [each.channel.range_j for each in self.wall.counters]
        return {
            WALL: Component(
                self.wall.entry.module,
                tier="measured" if self.wall.counts else "sampled",
                sampling_interval_s=self.wall.entry.every_s,
                wrap_range_j=min((each for each in ranges if each), default=None),
            )
        }

    def facts(self) -> dict[str, MeterFacts] | UnsetType:
        """Return what the record says of each meter; absent where none is named."""
        return {each.entry.name: _facts_of(each) for each in self.polled} or UNSET

    def fill(self, windows: Sequence[Metered]) -> None:
        """Fill the energies of windows that are over.

        Those of a window that is too short for a meter are None. The headline's tasks window is
        filled all the same, by the readings nearest to its ends, and the rules say what is wrong
        with it. Raises UserError where there are no two readings for it.
        """
        if not self.polled or not windows:
            return
        for meter in self.polled:
            if meter.answers(self._limits.sampling_gap_s):
                meter.wait_until_read(windows[-1].end_s, LAST_S)
        for window in windows:
            beside: dict[str, float | None] = {}
            for meter in self.polled:
                if meter is self.wall:
                    joules = self._energy_j(meter, window)
                    window.energy_j = msgspec.structs.replace(window.energy_j, wall=joules)
                    window.energy_own_j = msgspec.structs.replace(window.energy_own_j, wall=joules)
                    continue
                for part in meter.components():
                    own = (window.start_monotonic_s, window.end_s, self._limits.sampling_gap_s)
                    beside[f"{meter.entry.name}.{part}"] = meter.window_j(*own, part)
            window.meters_j = beside or UNSET

    def _energy_j(self, meter: Polled, window: Metered) -> float | None:
        start_s, end_s = window.start_monotonic_s, window.end_s
        joules = meter.window_j(start_s, end_s, self._limits.sampling_gap_s)
        if joules is None and meter is self.headline and window.name == "tasks":
            joules = meter.nearest_j(start_s, end_s)
            if joules is None:
                raise UserError(
                    f"The meter {meter.entry.name} ({meter.meter.LABEL}) gave no two readings, so "
                    f"the run has no energy. {_fault_of(meter)} Expected one every "
                    f"{meter.entry.every_s:g} s. Look at it with `make meter` and measure again."
                )
        return joules

    def powers_w(self, moments_s: Sequence[float], start_s: float) -> list[float | None] | None:
        """Return the power of the whole machine in intervals that end at moments; None without."""
        return None if self.wall is None else self.wall.powers(moments_s, start_s)

    def checks(self, tasks: Metered, gap_share: float) -> list[Check]:
        """Return the rules of the meters over the tasks window; none where no meter is named.

        `gap_share`: of the time of the window, what lies between the tasks.
        """
        found = []
        if self.headline is not None:
            found += self._of_headline(self.headline, tasks)
            found.append(at_most("gap_time", gap_share, self._limits.gap_time))
        beside = [each for each in self.polled if each is not self.headline]
        if beside:
            wrong = [why for each in beside if (why := self._wrong_with(each, tasks))]
            found.append(nothing_of("meter_beside", wrong))
        return found

    def _of_headline(self, meter: Polled, tasks: Metered) -> list[Check]:
        seen = meter.seen(tasks.start_monotonic_s, tasks.end_s)
        coarse = Unknown("the meter states no resolution")
        share = known(None if seen.steps is None else _over(1.0, seen.steps), coarse.reason)
        few = seen.readings < LEAST_READINGS
        return [
            at_most("meter_unreachable", seen.gap_s, self._longest_gap_s(meter)),
            nothing_of("stale_reading", seen.stale),
            at_most("meter_reset", seen.resets, 0),
            at_most("resolution", share, 1 / LEAST_STEPS),
            Check("too_few_readings", seen.readings, LEAST_READINGS, few)
            if meter.counters
            else unchecked("too_few_readings", Unknown("the meter was never read")),
        ]

    def _longest_gap_s(self, meter: Polled) -> float:
        return meter.longest_gap_s(self._limits.sampling_gap_s)

    def _wrong_with(self, meter: Polled, tasks: Metered) -> str:
        """Return what was wrong with a meter beside the headline; empty where nothing was."""
        seen, name = meter.seen(tasks.start_monotonic_s, tasks.end_s), meter.entry.name
        if not meter.counters:
            return f"{name}: never read"
        if seen.gap_s > self._longest_gap_s(meter):
            return f"{name}: no reading for {seen.gap_s:.0f} s"
        return _wrong_number(seen, name)


def _wrong_number(seen: Seen, name: str) -> str:
    if seen.stale:
        return f"{name}: showed one value for too long"
    if seen.resets:
        return f"{name}: was reset"
    if seen.readings < LEAST_READINGS:
        return f"{name}: {seen.readings} readings, fewer than {LEAST_READINGS}"
    if seen.steps is not None and seen.steps < LEAST_STEPS:
        return f"{name}: {seen.steps:.0f} steps of its resolution, fewer than {LEAST_STEPS}"
    return ""


def _over(one: float, many: float) -> float:
    return one / many if many > 0 else math.inf


def _require(meter: Polled | None) -> None:
    """Raise UserError where the headline's meter is not read, or is not of the whole machine."""
    if meter is None:
        raise UserError(
            "The study's headline is the energy of the whole machine (`energy: wall`), and no "
            "meter called `wall` was given. Expected one under `meters`. Add it."
        )
    if not meter.wait_for_first(OPENING_S):
        raise meter.fault or UserError(
            f"The meter {meter.entry.name} ({meter.meter.LABEL}) gave no reading within "
            f"{OPENING_S:g} s, and it is the study's headline. Expected one every "
            f"{meter.entry.every_s:g} s. Look at it with `make meter`."
        )
    if not meter.is_of_whole_machine:
        parts = sorted({each.channel.component for each in meter.counters})
        raise UserError(
            f"The meter {meter.entry.name} ({meter.meter.LABEL}) reads {', '.join(parts)}; the "
            "study's headline is the whole machine. Expected a meter at the wall, or a battery. "
            "Correct its options, or give it another name."
        )


def _is_emulated(meter: Polled) -> bool:
    return meter.facts().get("emulated") is True


def _fault_of(meter: Polled) -> str:
    return str(meter.fault) if meter.fault else ""


def _facts_of(meter: Polled) -> MeterFacts:
    return MeterFacts(
        module=meter.entry.module,
        label=meter.meter.LABEL,
        description=meter.meter.DESCRIPTION,
        every_s=meter.entry.every_s,
        emulated=_is_emulated(meter),
        device=meter.facts(),
        channels=[
            ChannelFacts(
                component=each.channel.component,
                name=each.channel.name,
                source=each.channel.source,
                counts=each.channel.counts,
                resolution_j=each.channel.resolution_j,
                update_interval_s=each.channel.update_interval_s,
                range_j=each.channel.range_j,
            )
            for each in meter.counters
        ],
        readings=meter.readings,
        round_trip_s=meter.round_trip_s(),
        faults=dict(sorted(meter.faults.items())),
    )
