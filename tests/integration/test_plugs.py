"""Plugs over the network: their energy, and each fault told apart, against emulated devices."""

import contextlib
import time

import pytest
from meters.load import Load, SimulatedClock
from meters.shelly_plug import OldShellyPlug, ShellyPlug
from meters.tasmota_plug import TasmotaPlug

from joules import meters
from joules.core.errors import UserError
from joules.meters.counter import Counter
from joules.meters.meter import BadAnswer, Refused, Unreachable, WrongDevice
from joules.meters.shared import digest, http

LATENCY_S, EVERY_S, WINDOW_S = 0.08, 1.0, 60.0
# How long a device that answers is waited for, and one that does not: a busy machine is no fault.
PATIENCE_S, SOON_S = 60.0, 0.4
PASSWORD = "Circle of Life & ü"
PLUGS = {
    "shelly": ("shelly", ShellyPlug, {}),
    "shelly, coarse and slow": ("shelly", ShellyPlug, {"step_j": 36.0, "update_s": 4.0}),
    "shelly pm1": ("shelly", ShellyPlug, {"component": "pm1"}),
    "shelly em": ("shelly", ShellyPlug, {"component": "em"}),
    "shelly em1": ("shelly", ShellyPlug, {"component": "em1"}),
    "shelly of generation 1": ("shelly", OldShellyPlug, {}),
    "tasmota": ("tasmota", TasmotaPlug, {}),
    "tasmota with decimals": ("tasmota", TasmotaPlug, {"power_step_w": 0.01}),
    "old tasmota": ("tasmota", TasmotaPlug, {"old": True}),
}


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.setenv("PLUG_PASSWORD", PASSWORD)
    monkeypatch.setattr(http, "TIMEOUT_S", PATIENCE_S)


def opened(module, plug, clock=time.monotonic, **options):
    return meters.load(module)({"host": plug.address, **options}, monotonic=clock)


def read_for(meter, clock, seconds):
    """Read once a second of the clock that device and meter share; return what was counted."""
    counter = Counter(meter.channels[0], 5000.0)
    end_s, due_s = clock() + seconds, clock()
    while clock() < end_s:
        counter.take(meter.read()[0])
        due_s += EVERY_S
        clock.sleep(max(0.0, due_s - clock()))
    return counter


@pytest.mark.parametrize("name", PLUGS)
def test_a_window_of_a_minute_has_the_energy_of_the_load(name):
    module, kind, options = PLUGS[name]
    clock = SimulatedClock()
    with (
        kind(Load(), clock, latency_s=LATENCY_S, **options) as plug,
        opened(module, plug, clock) as meter,
    ):
        begun_s = clock()
        counter = read_for(meter, clock, 2 * WINDOW_S)
    channel = meter.channels[0]
    step_j = plug.step_j if channel.counts else plug.power_step_w * WINDOW_S
    for offset_s in (1.7, 5.13, 11.0, 23.4, 36.9, 47.25):
        start_s, end_s = begun_s + offset_s, begun_s + offset_s + WINDOW_S
        ends_w = [plug.load.power_w(each - plug.started_s) for each in (start_s, end_s)]
        seen_j = counter.at_j(end_s) - counter.at_j(start_s)
        bound_j = step_j + plug.update_s * max(ends_w)
        assert abs(seen_j - plug.true_j(start_s, end_s)) <= bound_j, offset_s


@pytest.mark.parametrize("name", PLUGS)
def test_each_reading_is_of_the_middle_of_its_round_trip(name):
    module, kind, options = PLUGS[name]
    clock = SimulatedClock()
    with (
        kind(Load(), clock, latency_s=LATENCY_S, **options) as plug,
        opened(module, plug, clock) as meter,
    ):
        asked_s = clock()
        (reading,) = meter.read()
    assert reading.moment_s == pytest.approx(asked_s + LATENCY_S / 2)
    assert reading.round_trip_s == pytest.approx(LATENCY_S)


@pytest.mark.parametrize("name", PLUGS)
@pytest.mark.parametrize(
    "fault,expected",
    [
        ("silent", Unreachable),
        ("trickle", Unreachable),
        ("gone", Unreachable),
        ("cut", BadAnswer),
        ("error", BadAnswer),
        ("another", WrongDevice),
    ],
)
def test_each_fault_is_told_apart_and_passes(name, fault, expected, monkeypatch):
    module, kind, options = PLUGS[name]
    with kind(**options) as plug, opened(module, plug) as meter:
        meter.read()
        if fault == "gone":
            plug.close()
        plug.fault = fault
        refused = pytest.raises(UserError, match=r"(?s)expected.*\. [A-Z]")
        with monkeypatch.context() as patched, refused as told:
            if fault in ("silent", "trickle"):
                patched.setattr(meter._client, "_timeout_s", SOON_S)
            meter.read()
        assert type(told.value) is expected
        if fault != "gone":
            plug.fault = None
            assert meter.read()[0].power_w > 0, "it is asked anew"


@pytest.mark.parametrize("name", PLUGS)
@pytest.mark.parametrize("fault,expected", [("another", WrongDevice), ("silent", Unreachable)])
def test_what_is_not_the_device_is_refused_when_it_is_opened(name, fault, expected, monkeypatch):
    module, kind, options = PLUGS[name]
    if fault == "silent":
        monkeypatch.setattr(http, "TIMEOUT_S", SOON_S)
    with kind(**options) as plug:
        plug.fault = fault
        with pytest.raises(expected), opened(module, plug):
            pytest.fail("it opened")


@pytest.mark.parametrize("name", ["shelly", "shelly of generation 1", "tasmota", "old tasmota"])
def test_no_password_and_a_wrong_one_are_refused_and_the_right_one_is_taken(name, monkeypatch):
    module, kind, options = PLUGS[name]
    with kind(password=PASSWORD, **options) as plug:
        with pytest.raises(Refused, match="none is configured"), opened(module, plug):
            pytest.fail("it opened")
        with opened(module, plug, password_env="PLUG_PASSWORD") as meter:
            assert meter.read()[0].power_w > 0
        monkeypatch.setenv("PLUG_PASSWORD", "another")
        wrong = pytest.raises(Refused, match="another password")
        with wrong as told, opened(module, plug, password_env="PLUG_PASSWORD"):
            pytest.fail("it opened")
    assert PASSWORD not in str(told.value) and "password=" not in str(told.value)


def test_a_nonce_that_the_device_takes_back_is_asked_for_anew():
    with (
        ShellyPlug(password=PASSWORD, nonce_lasts=3) as plug,
        opened("shelly", plug, password_env="PLUG_PASSWORD") as meter,
    ):
        before = plug.asked
        for _ in range(12):
            meter.read()
    assert plug.asked - before in (15, 16), "every fourth is asked twice"


def test_a_challenge_that_is_not_known_is_told_with_what_to_do():
    with ShellyPlug(password=PASSWORD) as plug:
        plain = plug._challenge().headers[0][1]
        bearer = (("WWW-Authenticate", plain.replace("SHA-256", "SHA-3")),)
        challenge = http.UNAUTHORISED
        plug._challenge = lambda: type(plug._rpc(_request()))("", challenge, bearer)
        with (
            pytest.raises(Refused, match="algorithm SHA-3"),
            opened("shelly", plug, password_env="PLUG_PASSWORD"),
        ):
            pytest.fail("it opened")


def _request():
    from meters.plug import Request

    return Request("/rpc/Shelly.GetStatus", "/rpc/Shelly.GetStatus", {}, "")


@pytest.mark.parametrize(
    "algorithm,response",
    [
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
    ],
)
def test_the_digest_is_that_of_the_example_of_rfc_7616(algorithm, response):
    challenge = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", '
        f"algorithm={algorithm}, "
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    answered = digest.Digest(challenge, "Mufasa", "Circle of Life", lambda: cnonce)
    header = answered.header("GET", "/dir/index.html")
    assert f'response="{response}"' in header
    assert "nc=00000001" in header and f'cnonce="{cnonce}"' in header
    assert "nc=00000002" in answered.header("GET", "/dir/index.html")


@pytest.mark.parametrize("name", ["shelly", "shelly of generation 1"])
def test_a_counter_that_was_reset_is_seen_and_not_taken_for_energy(name):
    module, kind, options = PLUGS[name]
    clock = SimulatedClock()
    with (
        kind(Load(), clock, counted_before_j=36_000.0, **options) as plug,
        opened(module, plug, clock) as meter,
    ):
        counter = Counter(meter.channels[0], 5000.0)
        for second in range(20):
            if second == 10:
                plug.reset()
            counter.take(meter.read()[0])
            clock.sleep(1.0)
    assert counter.resets == 1
    assert 0 < counter.total_j < plug.true_j(plug.started_s, clock()) + plug.step_j


@pytest.mark.parametrize("name", ["shelly", "tasmota"])
def test_a_value_that_stands_still_can_be_seen(name):
    module, kind, options = PLUGS[name]
    clock = SimulatedClock()
    with kind(Load(swing_w=50.0), clock, **options) as plug, opened(module, plug, clock) as meter:
        counter = read_for(meter, clock, 20)
        before_s = counter.longest_still_s(plug.started_s, clock())
        plug.fault = "stale"
        for _ in range(30):
            counter.take(meter.read()[0])
            clock.sleep(1.0)
    assert before_s <= 3
    assert counter.longest_still_s(plug.started_s, clock()) >= 29


@pytest.mark.parametrize("name", ["shelly", "shelly of generation 1", "tasmota"])
def test_an_answer_without_the_numbers_is_no_reading(name):
    module, kind, options = PLUGS[name]
    with kind(**options) as plug, opened(module, plug) as meter:
        plug.fault = "no energy"
        with pytest.raises((BadAnswer, WrongDevice), match="expected"):
            meter.read()


def test_facts_say_model_firmware_and_that_the_plug_is_emulated():
    with ShellyPlug() as plug, opened("shelly", plug) as meter:
        assert meter.facts() == {
            "model": "SNPL-00112EU (emulated)",
            "firmware": "1.1.0",
            "generation": 2,
            "component": "switch:0",
            "emulated": True,
        }
        assert meter.channels[0].resolution_j == pytest.approx(3.6)
    with OldShellyPlug() as plug, opened("shelly", plug) as meter:
        assert meter.facts()["generation"] == 1 and meter.facts()["model"].startswith("SHPLG-S")
        assert meter.channels[0].resolution_j == 60


def test_tasmota_holds_the_plug_s_counter_against_the_integral():
    clock = SimulatedClock()
    with (
        TasmotaPlug(Load(), clock, power_step_w=0.1) as plug,
        opened("tasmota", plug, clock) as meter,
    ):
        for _ in range(600):
            meter.read()
            clock.sleep(1.0)
        held = meter.facts()["held_against_total"]
    assert held["seconds"] == pytest.approx(599)
    assert held["counter_step_j"] == pytest.approx(3600)
    assert abs(held["integrated_j"] - held["counted_j"]) <= 3600
    assert held["integrated_j"] == pytest.approx(plug.true_j(1000.0, 1599.0), rel=5e-3)


@pytest.mark.parametrize(
    "options,said",
    [
        ({"component": "em"}, "the components switch:0; asked for was em"),
        ({"id": 3}, "switch:0; asked for was any component with id 3"),
    ],
)
def test_a_component_that_a_shelly_lacks_is_refused_with_those_it_has(options, said):
    with (
        ShellyPlug() as plug,
        pytest.raises(WrongDevice, match=said),
        opened("shelly", plug, **options),
    ):
        pytest.fail("it opened")


def test_a_channel_of_several_must_be_named():
    with TasmotaPlug(channels=2) as plug:
        with pytest.raises(WrongDevice, match="meters 2 channels"), opened("tasmota", plug):
            pytest.fail("it opened")
        with opened("tasmota", plug, channel=1) as meter:
            assert meter.read()[0].power_w > 0


def test_a_plug_that_does_not_meter_is_refused():
    with (
        TasmotaPlug(without_meter=True) as plug,
        pytest.raises(WrongDevice, match="gives no ENERGY"),
        opened("tasmota", plug),
    ):
        pytest.fail("it opened")


@pytest.mark.parametrize("host", ["http://192.0.2.7", "192.0.2.7/status", "a:b@192.0.2.7", "x:0"])
def test_a_host_that_is_more_than_an_address_is_refused(host):
    for module in ("shelly", "tasmota", "kasa"):
        with pytest.raises(UserError, match="has host"):
            meters.load(module)({"host": host})
        with pytest.raises(UserError, match="has no `host`"):
            meters.load(module)({})


def test_no_proxy_stands_between_us_and_the_plug(monkeypatch):
    with contextlib.ExitStack() as stack:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        plug = stack.enter_context(ShellyPlug())
        meter = stack.enter_context(opened("shelly", plug))
        assert meter.read()[0].power_w > 0
