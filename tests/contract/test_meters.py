"""What every meter in the folder must do, found as the product finds it."""

import contextlib
import dataclasses
import json
import threading
import time

import pytest
from meters.stands import PASSWORD, STANDS

from joules import meters
from joules.core.errors import UserError
from joules.meters import meter, reader

KNOWN_COMPONENTS = {"wall", "cpu", "gpu", "dram", "psys", "soc", "battery"}


def test_meters_are_found_by_listing_the_folder():
    assert {"powercap", "nvml"} <= set(meters.names())
    assert not {"meter", "reader"} & set(meters.names())
    always = [meters.load(name) for name in meters.names() if meters.load(name).ALWAYS_READ]
    assert [type(each) for each in meters.all_meters()] == always


@contextlib.contextmanager
def made(name, folder, monkeypatch):
    """Yield the meter, not opened yet, on what stands for its device here, and its options."""
    if meters.load(name).ALWAYS_READ:
        yield meters.load(name)(), {}
        return
    with STANDS[name](folder, monkeypatch) as (options, arguments):
        yield meters.load(name)(options, **arguments), options


def test_every_meter_of_a_configuration_has_something_to_read_in_a_test():
    named = {name for name in meters.names() if not meters.load(name).ALWAYS_READ}
    assert set(STANDS) == named


@pytest.mark.parametrize("name", meters.names())
def test_a_meter_describes_itself_and_what_it_reads(name, tmp_path, monkeypatch):
    kind = meters.load(name)
    assert kind.LABEL and kind.DESCRIPTION.endswith(".")
    assert set(kind.COMPONENTS) <= KNOWN_COMPONENTS and kind.COMPONENTS
    with made(name, tmp_path, monkeypatch) as (one, _), one:
        assert one.channels or kind.ALWAYS_READ
        assert all(isinstance(each, meter.Channel) for each in one.channels)
        assert {each.component for each in one.channels} <= set(kind.COMPONENTS)
        sources = [each.source for each in one.channels]
        assert len(set(sources)) == len(sources), "each is read once"
        json.dumps(one.facts())
        readings = one.read()
        assert len(readings) == len(one.channels)
        for channel, reading in zip(one.channels, readings, strict=True):
            assert kind.ALWAYS_READ or reading is not None
            if reading is not None:
                assert reading.energy_j is not None or reading.power_w is not None
                assert not channel.counts or reading.energy_j is not None
                assert reading.moment_s <= time.monotonic()
                assert reading.age_s is None or reading.age_s >= 0


@pytest.mark.parametrize("name", sorted(STANDS))
def test_a_named_meter_makes_no_contact_before_it_is_opened_and_can_be_opened_anew(
    name, tmp_path, monkeypatch
):
    with made(name, tmp_path, monkeypatch) as (one, _):
        with one:
            first = one.read()
        with one:
            again = one.read()
    assert len(first) == len(again) == len(one.channels)
    threads = [each.name for each in threading.enumerate() if "_pass_on" in each.name]
    assert not threads, "what it started has ended"


@pytest.mark.parametrize("name", sorted(STANDS))
def test_what_a_meter_publishes_names_no_address_no_owner_and_no_password(
    name, tmp_path, monkeypatch
):
    with made(name, tmp_path, monkeypatch) as (one, options), one:
        one.read()
        told = json.dumps([one.facts(), [dataclasses.asdict(each) for each in one.channels]])
    private = [PASSWORD, "127.0.0.1", str(options.get("host", "127.0.0.1")), "AABBCC", "8901-LGC7Q"]
    assert not [each for each in (*private, str(tmp_path)) if each in told]
    assert "model" in told and "emulated" in told


@pytest.mark.parametrize("name", sorted(STANDS))
def test_an_emulated_device_is_said_to_be_one(name, tmp_path, monkeypatch):
    with made(name, tmp_path, monkeypatch) as (one, _), one:
        assert one.facts()["emulated"] is (name in ("kasa", "shelly", "tasmota"))


@pytest.mark.parametrize("name", sorted(STANDS))
def test_no_meter_takes_a_password_from_the_configuration(name):
    with pytest.raises(UserError) as refused:
        meters.load(name)({"host": "192.0.2.7", "password": PASSWORD})
    assert "password" in str(refused.value) and PASSWORD not in str(refused.value)


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
