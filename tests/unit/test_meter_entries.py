"""The meters that a configuration names: what is refused, and what is kept of them."""

import msgspec
import pytest

from joules.core.errors import UserError
from joules.core.meters import public
from joules.core.study import archived_configuration, study_from
from joules.meters.entries import polled_meters
from joules.meters.secrets import secret_of

SMALL = {"study": "s", "models": ["m"], "runtimes": ["r"]}
SHELLY = {"module": "shelly", "host": "192.0.2.7"}


def study(**keys):
    return study_from({**SMALL, **keys}, {})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"host": "192.0.2.7"}, r"`meters.wall.module` is None.*as shelly. Add it"),
        ({**SHELLY, "every_s": 0}, r"`meters.wall.every_s` is 0. Expected .* from 0.1 to 60"),
        ({**SHELLY, "every_s": True}, r"`meters.wall.every_s` is True"),
    ],
)
def test_an_entry_says_its_module_and_how_often_it_is_read(entry, said):
    with pytest.raises(UserError, match=said):
        study(meters={"wall": entry})


def test_a_headline_at_the_wall_needs_a_meter_called_wall():
    with pytest.raises(UserError, match="`energy` is wall and `meters` has no `wall`"):
        study(energy="wall", meters={"plug": SHELLY})
    assert study(energy="wall", meters={"wall": SHELLY}).energy == "wall"


@pytest.mark.parametrize(
    ("meters", "said"),
    [
        ({"wall": {"module": "shely"}}, "Unknown meter 'shely'. Known meters: .*shelly"),
        ({"wall": {**SHELLY, "colour": "red"}}, "has no option colour"),
        ({"cpu": {"module": "powercap"}}, "is read wherever it is there.*Take `meters.cpu` out"),
        ({"wall": {**SHELLY, "password": "x"}}, "archived and published.*`password_env`"),
        ({"wall": {"module": "apple"}}, "reads .*whole machine. Give this one another name"),
    ],
)
def test_what_a_meter_cannot_be_is_refused_before_any_device_is_asked(meters, said):
    with pytest.raises(UserError, match=said):
        polled_meters(study(meters=meters).meters)


def test_an_archived_configuration_says_nothing_of_where_a_meter_is_or_who_may_read_it():
    entry = {**SHELLY, "every_s": 2, "password_env": "PLUG", "user": "me", "component": "switch"}
    kept = archived_configuration(study(energy="wall", meters={"wall": entry}))
    assert kept["meters"] == {"wall": {"module": "shelly", "every_s": 2, "component": "switch"}}
    assert study_from({**kept, "runtime_options": {}}, {}).energy == "wall"
    assert public({}) == {}


def test_a_study_without_meters_keeps_its_runs_as_they_were():
    plain = msgspec.to_builtins(study())
    assert plain["meters"] == {}


def test_a_password_comes_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("PLUG", "open sesame")
    (tmp_path / "secret").write_text("from a file\nsecond line\n")
    assert secret_of("shelly", {"password_env": "PLUG"}) == "open sesame"
    assert secret_of("shelly", {"password_file": str(tmp_path / "secret")}) == "from a file"
    assert secret_of("shelly", {}) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"password": "open sesame"}, "has `password` in the configuration"),
        ({"password_env": "NOT_SET_HERE"}, "NOT_SET_HERE, which is not set here"),
        ({"password_file": "/nowhere"}, "/nowhere, which cannot be read"),
        ({"password_env": "A", "password_file": "b"}, "has both"),
    ],
)
def test_a_password_that_is_not_where_it_should_be_is_told_without_it(options, said):
    with pytest.raises(UserError, match=said) as caught:
        secret_of("shelly", options)
    assert "open sesame" not in str(caught.value)
