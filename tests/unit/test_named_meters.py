"""The meters of a configuration over a run: which rule each fault breaks, and what it costs."""

import dataclasses

import pytest
from msgspec import UNSET
from scripted_meter import COUNTING, POWER_ALONE, WATTS, Device, counted, polled

from joules.core.conditions import Limits
from joules.core.energy import Energy
from joules.core.errors import UserError
from joules.core.values import STATED_ONLY
from joules.measure.named_meters import NamedMeters
from joules.measure.validity import judged
from joules.meters.meter import Channel, Reading, Unreachable
from joules.meters.polled import Entry, Polled

NOTHING = Energy(1.0, None, None)


@dataclasses.dataclass
class Window:
    """A window of 60 s, or of another length."""

    name: str = "tasks"
    start_monotonic_s: float = 20.0
    end_s: float = 80.0
    energy_j: Energy = NOTHING
    energy_own_j: Energy = NOTHING
    meters_j: object = UNSET


def steady(moments=range(101)):
    return [counted(moment) for moment in moments]


def over(meter, energy="wall", gap_share=0.01, **window):
    """Return the codes that a tasks window broke, whether it is valid, and the window."""
    meter._first.set()
    named = NamedMeters([meter], energy, Limits())
    tasks = Window(**window)
    named.fill([tasks])
    validity = judged(named.checks(tasks, gap_share), flag_only=False)
    return {rule.code for rule in validity.codes}, validity.valid, tasks


def test_a_meter_that_does_well_breaks_no_rule_and_gives_its_energy():
    codes, valid, tasks = over(polled(steady()))
    assert (codes, valid) == (set(), True)
    assert tasks.energy_j.wall == tasks.energy_own_j.wall == pytest.approx(WATTS * 60, abs=3.6)
    assert tasks.energy_j.cpu == 1.0 and tasks.meters_j is UNSET


STALE = [
    Reading(float(at), counted(min(at, 40)).energy_j, WATTS) for at in range(101)
]  # power flows on
RESET = steady(range(50)) + [Reading(float(at), counted(at - 50).energy_j) for at in range(50, 101)]
COARSE = Channel("wall", "plug", "switch 0", None, resolution_j=3600.0, update_interval_s=1.0)
FAULTS = {
    "meter_unreachable": polled(steady([*range(40), *range(50, 101)])),
    "stale_reading": polled(STALE),
    "meter_reset": polled(RESET),
    "resolution": polled([counted(at, step_j=3600.0) for at in range(101)], COARSE),
    "too_few_readings": polled(steady(range(0, 101, 4)), every_s=4.0),
}


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_of_the_headline_s_meter_has_its_own_code_and_makes_a_run_invalid(code):
    codes, valid, tasks = over(FAULTS[code])
    assert (codes, valid) == ({code}, False)
    assert tasks.energy_j.wall is not None, "so that the record can be written, and kept"


@pytest.mark.parametrize("code", FAULTS)
def test_the_same_fault_beside_the_headline_costs_its_own_number_alone(code):
    codes, valid, tasks = over(FAULTS[code], energy="processor")
    assert (codes, valid) == ({"meter_beside"}, True)
    assert tasks.energy_j.wall is None and tasks.energy_j.cpu == 1.0
    assert "meter_beside" in STATED_ONLY


def test_much_time_between_the_tasks_is_stated_and_makes_no_run_invalid():
    codes, valid, _ = over(polled(steady()), gap_share=0.2)
    assert codes == {"gap_time"} and valid and "gap_time" in STATED_ONLY


def test_a_run_of_a_meter_that_was_never_read_is_refused_and_says_what_is_in_the_way():
    meter = Polled(Entry("wall", "scripted", 1.0), Device())
    meter._settle()
    meter.fault = Unreachable("Nothing answers at the plug.")
    with pytest.raises(UserError, match=r"gave no two readings.*Nothing answers at the plug"):
        over(meter)


def test_a_headline_without_a_reading_is_refused_with_its_fault(monkeypatch):
    monkeypatch.setattr("joules.measure.named_meters.OPENING_S", 0.01)
    meter = Polled(Entry("wall", "scripted", 1.0), Device())
    meter.fault = Unreachable("Nothing answers at the plug.")
    with pytest.raises(Unreachable, match="Nothing answers"):
        NamedMeters([meter], "wall", Limits())
    assert NamedMeters([meter], "processor", Limits()).headline is None


def test_a_headline_of_a_part_of_the_machine_is_refused():
    meter = polled(steady(), dataclasses.replace(COUNTING, component="cpu"))
    with pytest.raises(UserError, match="reads cpu; the study's headline is the whole machine"):
        over(meter)


@pytest.mark.parametrize(
    ("channel", "tier", "said"),
    [(COUNTING, "measured", "is counted by a meter"), (POWER_ALONE, "sampled", "and integrated")],
)
def test_the_tier_is_what_the_source_tells(channel, tier, said):
    readings = [Reading(float(at), None, WATTS) for at in range(101)]
    meter = polled(steady() if channel.counts else readings, channel)
    meter._first.set()
    named = NamedMeters([meter], "wall", Limits())
    assert named.tier()[0] == tier == named.component()["wall"].tier
    assert said in named.tier()[1]
    facts = named.facts()["wall"]
    assert facts.emulated and facts.channels[0].counts == channel.counts


def test_windows_too_short_for_the_meter_get_no_number_and_others_do():
    meter = polled(steady())
    meter._first.set()
    named = NamedMeters([meter], "wall", Limits())
    windows = [Window("load", 1.0, 3.0), Window("idle_resident", 3.0, 33.0)]
    named.fill(windows)
    assert windows[0].energy_j.wall is None
    assert windows[1].energy_j.wall == pytest.approx(WATTS * 30, abs=3.6)


def test_a_further_meter_is_kept_by_its_name_and_component():
    meter = polled(steady())
    meter.entry = Entry("board", "scripted", 1.0)
    named = NamedMeters([meter], "processor", Limits())
    tasks = Window()
    named.fill([tasks])
    assert tasks.meters_j == {"board.wall": pytest.approx(WATTS * 60, abs=3.6)}
    assert tasks.energy_j.wall is UNSET and named.component() == {}


def test_a_study_without_named_meters_has_nothing_of_them():
    named, tasks = NamedMeters([], "processor", Limits()), Window()
    named.fill([tasks])
    assert named.facts() is UNSET and named.checks(tasks, 0.5) == [] and named.component() == {}
    assert tasks.energy_j == NOTHING and tasks.meters_j is UNSET
