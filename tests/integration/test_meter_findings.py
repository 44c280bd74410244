"""What the doctor says of the meters that a study names, from emulated plugs on this machine."""

import socket

import pytest
from meters.load import steady
from meters.shelly_plug import ShellyPlug

from joules.commands import machine_findings, meter_findings
from joules.core.study import study_from
from joules.measure import named_meters

SMALL = {"study": "s", "models": ["m"], "runtimes": ["r"], "require_tier": "estimated"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(meter_findings, "LOOK_S", 2.5)


def findings(meters, energy="processor"):
    study = study_from({**SMALL, "meters": meters, "energy": energy}, {})
    return list(machine_findings.energy(study))


def of_meter(found, name="wall"):
    return [each for each in found if each.what == f"meter {name}"]


@pytest.fixture
def nobody(monkeypatch):
    """An address at which something listens and never answers, for which nobody waits long."""
    monkeypatch.setattr(named_meters, "OPENING_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_plug_is_read_live_and_an_emulated_one_is_said_to_be_so():
    with ShellyPlug(steady(50.0), latency_s=0.02) as plug:
        entry = {"module": "shelly", "host": plug.address, "every_s": 0.5}
        found = findings({"wall": entry}, "wall")
    shown, emulated = of_meter(found)
    assert (
        shown.mark == "ok" and "Shelly plug (SNPL-00112EU (emulated), 1.1.0): wall, " in shown.text
    )
    assert "3.6 J stated" in shown.text and "round trip" in shown.text
    assert emulated.mark == "note" and "emulated" in emulated.text
    (tier,) = (each for each in found if each.what == "energy tier")
    assert tier.mark == "ok" and tier.text.startswith("measured. The energy of the whole machine")


def test_a_headline_that_does_not_answer_blocks_with_what_is_in_the_way(nobody):
    (found,) = findings({"wall": {"module": "shelly", "host": nobody}}, "wall")
    assert (found.mark, found.what) == ("blocks", "energy tier")
    assert nobody in found.text or "no reading" in found.text


def test_a_meter_beside_the_headline_that_does_not_answer_is_noted(nobody):
    (found,) = of_meter(findings({"wall": {"module": "shelly", "host": nobody}}))
    assert found.mark == "note"


def test_a_password_that_is_wanted_is_told_by_its_own_words():
    with ShellyPlug(steady(50.0), password="quiet-Harbour-5") as plug:
        (found,) = of_meter(findings({"wall": {"module": "shelly", "host": plug.address}}))
    assert found.mark == "note" and "password" in found.text
    assert "quiet-Harbour-5" not in found.text


def test_a_study_without_meters_has_no_line_of_them():
    assert of_meter(findings({})) == []
