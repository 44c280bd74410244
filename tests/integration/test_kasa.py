"""Kasa plugs by python-kasa in its own environment, against an emulated HS110 that speaks XOR."""

import os

import pytest
from meters.kasa_plug import KasaPlug, clear, scrambled
from meters.load import steady

from joules import meters
from joules.core.errors import UserError
from joules.meters import kasa
from joules.meters.meter import BadAnswer, Unreachable, WrongDevice
from joules.meters.shared.observed import observe


def opened(plug, **options):
    return meters.load("kasa")({"host": plug.address, **options})


def test_the_scrambling_is_that_of_the_published_example():
    # softScheck's tplink-smartplug: {"system":{"get_sysinfo":{}}} begins with these bytes.
    content = scrambled('{"system":{"get_sysinfo":{}}}')
    assert content[:4] == bytes([0, 0, 0, 29])
    assert content[4:12] == bytes([0xD0, 0xF2, 0x81, 0xF8, 0x8B, 0xFF, 0x9A, 0xF7])
    assert clear(content[4:]) == '{"system":{"get_sysinfo":{}}}'


def test_a_reading_is_one_round_trip_of_the_plug_s_present_power():
    with KasaPlug(steady(61.5), latency_s=0.1) as plug, opened(plug) as meter:
        before = plug.asked
        readings = [meter.read()[0] for _ in range(4)]
        plug.load = steady(72.25)
        readings.append(meter.read()[0])
        assert plug.asked - before == 5
        assert [each.power_w for each in readings] == [*[61.5] * 4, 72.25]
        seen = observe(readings)
        assert seen.round_trip_s >= 0.1 and seen.readings == 5
        assert meter.facts()["model"] == "HS110" and meter.facts()["emulated"]
        assert set(meter.facts()["held_against_total"]) >= {"integrated_j", "counted_j"}


@pytest.mark.parametrize(
    "fault,expected",
    [
        ("silent", Unreachable),
        ("another", WrongDevice),
        ("no energy", WrongDevice),
        ("cut", BadAnswer),
    ],
)
def test_each_fault_is_told_apart_and_passes(fault, expected, monkeypatch):
    monkeypatch.setattr(kasa, "ANSWER_S", 3.0)
    with KasaPlug() as plug, opened(plug) as meter:
        meter.read()
        plug.fault = fault
        with pytest.raises(expected, match=r"(?s)expected.*\. [A-Z]"):
            meter.read()
        plug.fault = None
        assert meter.read()[0].power_w > 0, "it is asked anew"


def test_what_does_not_meter_and_what_is_not_there_are_told_apart():
    with (
        KasaPlug(without_meter=True) as plug,
        pytest.raises(WrongDevice, match="has no meter"),
        opened(plug),
    ):
        pytest.fail("it opened")
    gone = meters.load("kasa")({"host": plug.address})
    with pytest.raises(Unreachable, match="does not answer"), gone:
        pytest.fail("it opened")


def test_a_program_that_was_killed_is_started_anew_and_ends_with_the_meter():
    with KasaPlug() as plug, opened(plug) as meter:
        first = meter._child._process
        os.kill(first.pid, 9)
        first.wait()
        assert meter.read()[0].power_w > 0
        second = meter._child._process
    assert second.pid != first.pid and second.poll() is not None


def test_the_password_is_in_no_command_line_and_no_environment_of_the_program(monkeypatch):
    monkeypatch.setenv("KASA_PASSWORD", "correct horse")
    monkeypatch.setattr(kasa, "ANSWER_S", 2.0)
    login = {"user": "a@b.example", "password_env": "KASA_PASSWORD"}
    with KasaPlug() as plug:
        meter = opened(plug, **login)
        process = meter._child._start()
        for file in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{file}", "rb") as stream:
                assert b"correct horse" not in stream.read()
        meter._child.close()


@pytest.mark.parametrize("given", [{"user": "a@b.example"}, {"password_env": "KASA_PASSWORD"}])
def test_user_and_password_go_together(given, monkeypatch):
    monkeypatch.setenv("KASA_PASSWORD", "correct horse")
    with pytest.raises(UserError, match="beside its password"):
        meters.load("kasa")({"host": "192.0.2.7", **given})
