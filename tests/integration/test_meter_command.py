"""`make meter`: what a person with a new plug runs first."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from meters.load import steady
from meters.shelly_plug import ShellyPlug
from requirement_files import ROOT

from joules.commands import meter as command
from joules.core.errors import UserError
from joules.meters.meter import Reading
from joules.meters.shared.observed import observe

WATTS, LATENCY_S = 55.0, 0.03


def started(name, options, **environment):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "joules.commands.meter", name, "--options", options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process, number=signal.SIGINT):
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=20)
    return out, err, process.returncode


@pytest.fixture
def plug():
    with ShellyPlug(steady(WATTS), latency_s=LATENCY_S, password="a secret") as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_readings_until_ended_and_then_what_was_seen(plug, number):
    options = f"{{module: shelly, every_s: 1, host: '{plug.address}', password_env: PLUG}}"
    process = started("shelly", options, PLUG="a secret")
    lines = [process.stdout.readline() for _ in range(4)]
    out, err, status = ended(process, number)
    assert (err, status) == ("", 0)
    assert lines[0].startswith("Shelly plug: model SNPL-00112EU (emulated), firmware 1.1.0")
    for line in lines[1:]:
        assert re.search(r" s  Shelly switch:0: +55\.00 W, .* J since the start, \d+ ms", line)
    last = out.splitlines()[-1]
    for said in ("readings in", "mean power", "smallest step seen", "round trip", "J, counted"):
        assert said in last
    assert "a secret" not in out + "".join(lines)


def test_it_ends_at_once_while_the_plug_does_not_answer(plug):
    process = started("shelly", f"{{host: '{plug.address}', password_env: PLUG}}", PLUG="a secret")
    process.stdout.readline(), process.stdout.readline()
    plug.fault = "silent"
    before = plug.asked
    while plug.asked == before:
        time.sleep(0.01)
    out, err, status = ended(process)
    assert (err, status) == ("", 0) and "reading" in out.splitlines()[-1]


def test_a_fault_is_told_and_the_reading_goes_on(plug):
    process = started("shelly", f"{{host: '{plug.address}', password_env: PLUG}}", PLUG="a secret")
    process.stdout.readline(), process.stdout.readline()
    plug.fault = "another"
    told = process.stdout.readline()
    while "not read" not in told:
        told = process.stdout.readline()
    plug.fault = None
    again = process.stdout.readline()
    while "55.00 W" not in again:
        again = process.stdout.readline()
    out, _, status = ended(process)
    assert "expected a Shelly" in told and status == 0
    assert re.search(r"\d readings? failed", out)


def test_a_plug_that_cannot_be_opened_is_an_error_with_what_to_do(plug):
    process = started("shelly", f"{{host: '{plug.address}'}}")
    out, err = process.communicate(timeout=120)
    assert (out, process.returncode) == ("", 2)
    assert err.startswith("error: ") and "wants a password" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "name,options,said",
    [
        ("", "", "expected NAME, one of: apple, battery, csv"),
        ("shelli", "", "Unknown meter 'shelli'"),
        ("shelly", "host:192.0.2.7", "expected a mapping in YAML"),
        ("shelly", "{host: [}", "expected a mapping in YAML"),
        ("shelly", "{host: 192.0.2.7, password: x}", "password_env"),
        ("tasmota", "", "has no `host`"),
    ],
)
def test_bad_use_names_what_was_expected(name, options, said, capsys):
    assert command.main([name, "--options", options]) == 2
    assert said in capsys.readouterr().err


def test_options_are_those_of_a_study_s_entry():
    assert command.options_of("{module: shelly, every_s: 2, host: 192.0.2.7, id: 1}") == {
        "host": "192.0.2.7",
        "id": 1,
    }
    with pytest.raises(UserError, match="expected a mapping"):
        command.options_of("[host]")


def test_make_hands_the_options_over_as_they_are():
    given = ["make", "-n", "meter", "NAME=shelly", "OPTIONS={host: 192.0.2.7, id: 1}"]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'joules.commands.meter "shelly" --options "{host: 192.0.2.7, id: 1}"' in done.stdout


def test_what_is_seen_of_readings_is_their_power_step_interval_and_energy():
    counted = [
        Reading(float(t), 3.6 * (t // 2), 9.0, round_trip_s=0.1 + t / 100) for t in range(11)
    ]
    seen = observe(counted)
    assert (seen.readings, seen.seconds) == (11, 10.0)
    assert seen.energy_j == pytest.approx(18.0) and seen.mean_power_w == pytest.approx(1.8)
    assert (seen.step, seen.unit) == (pytest.approx(3.6), "J") and seen.update_interval_s == 2.0
    assert (seen.round_trip_s, seen.slowest_round_trip_s) == pytest.approx((0.15, 0.2))
    powered = observe([Reading(0.0, power_w=10.0), Reading(2.0, power_w=30.0)])
    assert powered.energy_j == 40.0 and (powered.step, powered.unit) == (20.0, "W")
    nothing = observe([])
    assert nothing.readings == 0 and nothing.mean_power_w is None and nothing.step is None
