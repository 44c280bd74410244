"""Meters of the configuration: what their readings say of a window, and that nobody waits."""

import threading
import time
import types

import pytest
from meters.load import SimulatedClock
from scripted_meter import POWER_ALONE, WATTS, Device, counted, polled

from joules.meters import polled as polled_module
from joules.meters.meter import Channel, Reading, Refused, Unreachable
from joules.meters.polled import LEAST_READINGS, Entry, Polled
from joules.meters.reader import OwnReader


def test_the_energy_of_a_window_is_known_to_a_step_and_an_interval():
    meter = polled([counted(moment) for moment in range(101)])
    for start_s, end_s in ((10.0, 70.0), (10.3, 70.9), (20.5, 41.5)):
        joules = meter.window_j(start_s, end_s, 5.0)
        assert joules == pytest.approx(WATTS * (end_s - start_s), abs=3.6 + 1e-6)


def test_power_alone_is_integrated_by_trapezoids():
    ramp = [Reading(float(moment), power_w=2.0 * moment) for moment in range(61)]
    meter = polled(ramp, POWER_ALONE)
    assert meter.window_j(10.0, 50.0, 5.0) == pytest.approx(50**2 - 10**2)
    assert not meter.counts


def test_a_window_of_few_readings_gets_no_number():
    meter = polled([counted(moment) for moment in range(101)])
    assert meter.window_j(10.5, 10.5 + LEAST_READINGS, 5.0) is not None
    assert meter.window_j(10.5, 10.5 + LEAST_READINGS - 1, 5.0) is None
    assert meter.energy_j(10.5, 12.5) is not None, "though it can be interpolated"


def test_a_window_of_few_steps_gets_no_number():
    coarse = Channel("wall", "plug", "switch 0", None, resolution_j=36.0, update_interval_s=1.0)
    meter = polled([counted(moment, step_j=36.0) for moment in range(101)], coarse)
    assert meter.window_j(0.0, 44.0, 5.0) is None, "97 steps"
    assert meter.window_j(0.0, 46.0, 5.0) is not None, "102 steps"
    assert meter.seen(0.0, 100.0).steps == pytest.approx(222, abs=1)


def test_a_window_without_a_reading_beyond_its_end_gets_no_number():
    meter = polled([counted(moment) for moment in range(61)])
    assert meter.window_j(0.0, 60.5, 5.0) is None
    assert meter.nearest_j(0.0, 60.5) == pytest.approx(WATTS * 60, abs=3.6)


def test_a_pause_longer_than_the_limit_gets_no_number_and_is_seen():
    moments = [*range(40), *range(48, 101)]
    meter = polled([counted(moment) for moment in moments])
    assert meter.seen(10.0, 90.0).gap_s == pytest.approx(9.0)
    assert meter.window_j(10.0, 90.0, 5.0) is None
    assert meter.window_j(10.0, 90.0, 9.0) == pytest.approx(WATTS * 80, abs=3.6)


def test_a_slow_meter_may_pause_for_three_of_its_intervals():
    meter = polled([counted(moment) for moment in range(0, 601, 10)], every_s=10.0)
    assert meter.longest_gap_s(5.0) == 30.0
    assert meter.window_j(50.0, 550.0, 5.0) == pytest.approx(WATTS * 500, abs=3.6)


def test_a_counter_that_shows_one_value_while_power_flows_is_stale():
    stuck = [counted(min(moment, 40)) for moment in range(101)]
    meter = polled([Reading(float(at), each.energy_j, WATTS) for at, each in enumerate(stuck)])
    assert meter.seen(10.0, 90.0).stale == ["plug"]
    assert meter.window_j(10.0, 90.0, 5.0) is None
    assert not meter.seen(10.0, 40.0).stale


def test_a_coarse_counter_may_stand_still_until_its_step_is_full():
    coarse = Channel("wall", "plug", "switch 0", None, resolution_j=3600.0)
    meter = polled([counted(moment, step_j=3600.0) for moment in range(1001)], coarse)
    assert not meter.seen(100.0, 900.0).stale, "a step is full every 45 s"


def test_a_source_that_gives_its_old_value_again_has_no_new_reading():
    meter = polled([Reading(0.0, 0.0, age_s=0.1), Reading(1.0, 80.0, age_s=0.1)])
    for age_s in (1.1, 2.1):
        meter._take([Reading(1.0, 80.0, age_s=age_s)])
    assert meter.readings == 2


def test_a_counter_that_was_reset_is_seen_and_its_window_gets_no_number():
    meter = polled([counted(moment % 50) for moment in range(101)])
    assert meter.seen(10.0, 90.0).resets == 2
    assert meter.window_j(10.0, 90.0, 5.0) is None


def test_a_wrap_of_a_known_range_is_no_reset():
    wraps = Channel("wall", "plug", "switch 0", 4000.0)
    meter = polled([Reading(float(at), WATTS * at % 4000) for at in range(101)], wraps)
    assert meter.window_j(0.0, 100.0, 5.0) == pytest.approx(WATTS * 100)


def test_powers_are_those_between_moments_and_unknown_where_it_was_not_read():
    meter = polled([counted(moment) for moment in range(10, 61)])
    powers = meter.powers([9.0, 20.0, 40.0, 61.0], 8.0)
    assert powers[0] is None and powers[3] is None
    assert powers[2] == pytest.approx(WATTS, rel=0.05)


def test_the_power_that_a_source_tells_is_not_taken_from_its_steps():
    meter = polled([Reading(float(at), counted(at).energy_j, 70.0 + at) for at in range(61)])
    assert meter.powers([20.5, 20.9], 20.3) == pytest.approx([90.4, 90.7])


def test_a_meter_that_never_answers_delays_nobody():
    answer, asked = threading.Event(), threading.Event()

    def hang():
        asked.set()
        answer.wait()

    meter = Polled(Entry("wall", "scripted", 0.1), Device(answers=hang))
    meter.start()
    assert asked.wait(60)
    assert meter.energy_j(0.0, 1.0) is None and meter.readings == 0
    assert not meter.answers(5.0) and not meter.wait_for_first(0.01)
    meter.stop()
    assert meter._thread.is_alive(), "it still hangs, and its end was not waited for"
    answer.set()


class WaitsOnClock(threading.Event):
    """An event that notes each wait and moves a clock by it; set after so many of them."""

    def __init__(self, clock, waits):
        super().__init__()
        self.clock, self.left, self.waited_s = clock, waits, []

    def wait(self, timeout=None):
        if len(self.waited_s) == self.left:
            return True
        self.waited_s.append(timeout)
        self.clock.sleep(timeout)
        return False


def test_what_is_in_the_way_is_told_and_tried_again_less_and_less_often(monkeypatch):
    fault, clock = Refused("A password is wanted."), SimulatedClock()
    monkeypatch.setattr(polled_module, "time", types.SimpleNamespace(monotonic=clock))
    device = Device(open_fault=fault)
    meter = Polled(Entry("wall", "scripted", 0.01), device)
    meter._stop = WaitsOnClock(clock, waits=8)
    meter._watch()
    assert meter.fault is fault and meter.faults == {"Refused": device.opened} == {"Refused": 8}
    # A device that refuses a password is not asked every hundredth of a second.
    assert meter._stop.waited_s == pytest.approx([0, 1.01, 3, 7, 15, 30, 30, 30])
    assert device.asked == 0


def test_a_meter_that_answers_again_is_read_again_and_closed_by_its_own_thread():
    said = [Unreachable("Nothing answers."), RuntimeError("a library's own"), None]
    closed_by = []

    def answers():
        if said and (fault := said.pop(0)):
            raise fault
        return [Reading(time.monotonic(), 80.0 * time.monotonic())]

    device = Device(answers=answers)
    device.__class__ = type(
        "Closing",
        (Device,),
        {"__exit__": lambda self, *_: closed_by.append(threading.current_thread().name)},
    )
    meter = Polled(Entry("wall", "scripted", 0.01), device)
    meter.start()
    assert meter.wait_for_first(60)
    meter.stop()
    meter._thread.join(60)  # a loaded machine may take longer than `stop` waits
    assert meter.faults == {"BadAnswer": 1, "Unreachable": 1} and meter.fault is None
    assert device.opened == 1 and closed_by == ["meter-wall"]


def test_the_meter_called_wall_reads_the_whole_machine_and_no_part_of_it_twice():
    node = [Channel("wall", "energy", "a", None), Channel("cpu", "cpu_energy", "b", None)]
    readings = [[Reading(float(at), 100.0 * at), Reading(float(at), 60.0 * at)] for at in range(61)]
    for name, whole_j in (("wall", 100.0 * 40), ("node", 160.0 * 40)):
        meter = Polled(Entry(name, "scripted", 1.0), Device())
        meter.meter.channels = node
        meter._settle()
        for reading in readings:
            meter._take(reading)
        assert meter.energy_j(10.0, 50.0) == pytest.approx(whole_j)
        assert meter.is_of_whole_machine == (name == "wall")
    assert meter.window_j(10.0, 50.0, 5.0, "cpu") == pytest.approx(60.0 * 40)


def test_the_end_of_a_window_and_of_a_run_wait_for_no_meter_that_hangs():
    answer, asked = threading.Event(), threading.Event()

    def hang():
        asked.set()
        answer.wait()

    stuck = Polled(Entry("wall", "scripted", 0.1), Device(answers=hang))
    with OwnReader([], named=[stuck]) as reader:
        assert asked.wait(60)
        assert reader.total_j() == dict.fromkeys(("cpu", "gpu", "dram", "psys"))
        assert reader.largest_gap_s(0.0, 1.0) is None, "it is no counter of the processor's"
    assert stuck._thread.is_alive() and stuck._thread.daemon
    answer.set()
