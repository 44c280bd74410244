"""What every meter in the folder must do, found as the product finds it."""

import dataclasses
import json
import threading

import pytest

from joules import meters
from joules.core.errors import UserError
from joules.meters import meter, reader

KNOWN_COMPONENTS = {"wall", "cpu", "gpu", "dram", "psys", "soc", "battery"}


def test_meters_are_found_by_listing_the_folder():
    assert {"powercap", "nvml"} <= set(meters.names())
    assert not {"meter", "reader"} & set(meters.names())
    always = [meters.load(name) for name in meters.names() if meters.load(name).ALWAYS_READ]
    assert [type(each) for each in meters.all_meters()] == always


@pytest.mark.parametrize("name", meters.names())
def test_a_meter_describes_itself_and_what_it_reads(name):
    kind = meters.load(name)
    assert kind.LABEL and kind.DESCRIPTION.endswith(".")
    assert set(kind.COMPONENTS) <= KNOWN_COMPONENTS and kind.COMPONENTS
    with kind() as one:
        assert all(isinstance(each, meter.Channel) for each in one.channels)
        assert {each.component for each in one.channels} <= set(kind.COMPONENTS)
        sources = [each.source for each in one.channels]
        assert len(set(sources)) == len(sources), "each is read once"
        json.dumps(one.facts())
        readings = one.read()
        assert len(readings) == len(one.channels)
        for reading in readings:
            assert reading is None or reading.energy_j is not None or reading.power_w is not None


@pytest.mark.parametrize("name", meters.names())
def test_options_that_a_meter_does_not_know_are_refused_by_name(name):
    with pytest.raises(UserError, match=f"The meter {name} has no option colour"):
        meters.load(name)({"colour": "red"})


def test_an_unknown_meter_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"Unknown meter 'x'. Known meters: .*nvml"):
        meters.load("x")


@dataclasses.dataclass
class Slow:
    """A meter that answers when it is told to."""

    LABEL, ANSWERS_AT_ONCE = "slow", False
    channels = (meter.Channel("dram", "slow", "a device", None),)

    def __post_init__(self):
        self.asked, self.answers = threading.Event(), threading.Event()
        self.first = True

    def read(self):
        if not self.first:
            self.asked.set()
            self.answers.wait()
        self.first = False
        return [meter.Reading(0.0, 1.0)]


class Fast:
    LABEL, ANSWERS_AT_ONCE = "fast", True
    channels = (meter.Channel("cpu", "fast", "a file", 1e6),)
    joules = 0.0

    def read(self):
        self.joules += 1
        return [meter.Reading(self.joules, self.joules)]


def test_a_slow_meter_delays_no_other():
    slow = Slow()
    with reader.OwnReader([slow, Fast()], 0.001) as own:
        assert slow.asked.wait(10), "its own thread asks it"
        before = own.total_j()["cpu"]
        assert own.total_j()["cpu"] > before, "while the slow one has not answered"
        slow.answers.set()


def test_a_reader_without_meters_has_no_energy_rather_than_none_at_all():
    own = reader.OwnReader([])
    assert own.total_j() == dict.fromkeys(reader.COMPONENTS)
    assert own.largest_gap_s(0, 1) is None
    assert own.smallest_range_j("cpu") is None
