"""A meter of the whole machine, put into the records of a synthetic study.

The truth is known: the wall takes 20 W, and a quarter more than the processor takes, so that its
ratio to the processor hangs on how long a run is.
"""

from msgspec.structs import replace

from joules.core import stored
from joules.core.machine_facts import Component
from joules.core.meters import ChannelFacts, MeterFacts
from joules.core.record import CheckedRule, Gaps, Record, Window
from joules.core.values import EnergyChoice, Tier

REST_W, LOSS = 20.0, 1.25
LABEL, DESCRIPTION = "Synthetic plug", "It counts what it is told."


def wall_j(cpu_j: float, duration_s: float) -> float:
    """Return what the wall takes in a time in which the processor takes so much, in joule."""
    return REST_W * duration_s + LOSS * cpu_j


def _window(window: Window, idle: Window, short: bool) -> Window:
    told = (
        None if short and window.name != "tasks" else wall_j(window.energy_j.cpu, window.duration_s)
    )
    idle_j = wall_j(idle.energy_j.cpu, idle.duration_s) / idle.duration_s * window.duration_s
    return replace(
        window,
        energy_j=replace(window.energy_j, wall=told),
        energy_own_j=replace(window.energy_own_j, wall=told),
        net_energy_j=replace(
            window.net_energy_j, wall=None if told is None or short else told - idle_j
        ),
    )


def with_meter(
    record: Record,
    energy: EnergyChoice = "wall",
    *,
    tier: Tier = "measured",
    processor_tier: Tier | None = "measured",
    emulated: bool = False,
    device: tuple[str, str] = ("Plug 1", "1.0"),
    short: bool = False,
    gap_limit: float = 0.05,
) -> Record:
    """Return a record whose run was metered at the wall as well, or as its headline (`energy`).

    `tier` is that of the meter, `device` its model and firmware. `short`: every window but the
    tasks is too short for it.
    """
    windows = [_window(each, record.windows[0], short) for each in record.windows]
    tasks = next(each for each in windows if each.name == "tasks")
    channel = ChannelFacts(
        component="wall",
        name="plug",
        source="switch 0",
        counts=tier == "measured",
        resolution_j=3.6 if tier == "measured" else None,
        update_interval_s=1.0,
        range_j=None,
    )
    meter = MeterFacts(
        module="shelly",
        label=LABEL,
        description=DESCRIPTION,
        every_s=1.0,
        emulated=emulated,
        device=dict(zip(("model", "firmware"), device, strict=True)),
        channels=[channel],
        readings=600,
        round_trip_s=0.05,
        faults={},
    )
    parts = {"cpu": Component("intel_rapl", tier=processor_tier), "wall": Component("shelly", tier)}
    facts = {"components": parts, "meters": {"wall": meter}, "headline": energy}
    said = " The meter is emulated." if emulated else ""
    if energy == "wall":
        facts |= {"tier": tier, "tier_reason": f"A plug told it.{said}"}
    trace = replace(record.trace, wall_power_w=[wall_j(w, 1.0) for w in record.trace.cpu_power_w])
    changed = replace(
        record, windows=windows, instrument=replace(record.instrument, **facts), trace=trace
    )
    if energy != "wall":
        return changed
    gaps = record.gaps
    share = gaps.duration_s / tasks.duration_s
    checks = [*record.validity.checks, CheckedRule("gap_time", share, gap_limit)]
    return replace(
        changed,
        energy_j=tasks.energy_j.wall,
        gaps=Gaps(gaps.duration_s, None, None, gaps.conservation, gaps.by_component_j),
        validity=replace(record.validity, checks=checks),
    )


def add_to(written, **options) -> None:
    """Put a meter into every record of a written study; `options` are those of `with_meter`."""
    for path in written.records:
        stored.write_record(path, with_meter(stored.read_record(path), **options))
