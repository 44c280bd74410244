"""What the doctor finds about the meters that a study names: each is read for some seconds."""

import time
from collections.abc import Iterator, Sequence

from joules.commands.findings import Finding
from joules.core.energy import WALL
from joules.core.study import Study
from joules.meters.counter import Counter
from joules.meters.meter import Reading
from joules.meters.polled import Polled
from joules.meters.shared.observed import Observed, observe

LOOK_S = 6.0


def meters(study: Study, named: Sequence[Polled]) -> Iterator[Finding]:
    """Yield what each meter shows live; they were started already, and are read on for a while."""
    if not named:
        return
    time.sleep(LOOK_S)
    for meter in named:
        what = f"meter {meter.entry.name}"
        is_headline = study.energy == WALL == meter.entry.name
        if not meter.readings:
            said = str(meter.fault) if meter.fault else f"no reading within {LOOK_S:g} s"
            yield Finding("blocks" if is_headline else "note", what, said)
            continue
        facts = meter.facts()
        told = [str(facts[key]) for key in ("model", "firmware") if facts.get(key)]
        for counter in meter.counters:
            text = f"{meter.meter.LABEL} ({', '.join(told) or counter.channel.name}): "
            yield Finding("ok", what, text + shown(counter, meter))
        if facts.get("emulated") is True:
            yield Finding("note", what, "it is emulated, as it says itself: no power is measured")
        if meter.faults:
            kinds = ", ".join(f"{kind} {count} times" for kind, count in meter.faults.items())
            yield Finding("note", what, f"not every reading came: {kinds}")


def shown(counter: Counter, meter: Polled) -> str:
    """Return what a channel showed: power, step, update interval, round trip."""
    trip_s, channel = meter.round_trip_s(), counter.channel
    readings = [
        Reading(moment_s, joules, power_w, round_trip_s=trip_s)
        for moment_s, joules, power_w in zip(
            counter.moments_s, counter.totals_j, counter.powers_w, strict=True
        )
    ]
    seen: Observed = observe(readings)
    parts = [f"{channel.component}"]
    if seen.mean_power_w is not None:
        parts.append(f"{seen.mean_power_w:.1f} W")
    if channel.counts:
        stated = f", {channel.resolution_j:g} J stated" if channel.resolution_j else ""
        step = f"{seen.step:.3g} J" if seen.step is not None else "none seen yet"
        parts.append(f"smallest step {step}{stated}")
    else:
        parts.append("power alone, which is integrated")
    if seen.update_interval_s is not None:
        parts.append(f"a new value every {seen.update_interval_s:.1f} s")
    if trip_s is not None:
        parts.append(f"round trip {trip_s * 1e3:.0f} ms")
    return ", ".join(parts)
