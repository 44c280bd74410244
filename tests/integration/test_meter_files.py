"""Meters that are files, hwmon, batteries and Cray nodes; and Apple's by a scripted library."""

import os
import subprocess
import sys

import pytest
from meters import trees
from meters.load import SimulatedClock
from meters.stands import ZEUS, apple

import joules
from joules import meters
from joules.core.errors import UserError
from joules.meters.counter import Counter
from joules.meters.meter import BadAnswer, Refused, Unreachable, WrongDevice

EPOCH_S = 1_795_000_000.0
ASKED = r"(?s)[Ee]xpected.*\. [A-Z]"

# --- hwmon ----------------------------------------------------------------------------------------


def hwmon(root, **options):
    return meters.load("hwmon")({"component": "gpu", **options}, root=root)


@pytest.mark.parametrize(
    "options,watts,joules,label",
    [
        ({"chip": "amdgpu"}, 31.0, None, "PPT"),
        ({"chip": "xe", "sensor": "energy1"}, None, 5.0, "card"),
        ({"chip": "xe", "sensor": "energy2_input"}, None, 3.0, "pkg"),
        (
            {"chip": "corsairpsu", "sensor": "power1", "component": "wall"},
            92.0,
            None,
            "power total",
        ),
        ({"chip": "ina226", "component": "soc"}, 4.25, None, ""),
    ],
)
def test_a_chip_is_found_by_its_name_behind_its_links(tmp_path, options, watts, joules, label):
    with hwmon(trees.hwmon(tmp_path), **options) as meter:
        (reading,) = meter.read()
        assert (reading.power_w, reading.energy_j) == (watts, joules)
        assert meter.facts()["label"] == label
        assert meter.channels[0].counts is (joules is not None)


def test_two_chips_of_one_name_are_told_apart_by_their_device(tmp_path):
    root = trees.hwmon(tmp_path)
    second = "pci0000:00/0000:00:03.2/0000:2f:00.0"
    trees.in_class(
        tmp_path, "hwmon", "hwmon12", second, {"name": "amdgpu", "power1_average": 7_000_000}
    )
    refused = pytest.raises(WrongDevice, match="0000:2b:00.0, 0000:2f:00.0")
    with refused, hwmon(root, chip="amdgpu"):
        pytest.fail("it opened")
    with hwmon(root, chip="amdgpu", device="0000:2f:00.0") as meter:
        assert meter.read()[0].power_w == 7


def test_a_register_of_32_bits_wraps_where_its_range_is_stated(tmp_path):
    range_j = 2**32 / 1e6
    root = trees.hwmon(tmp_path)
    file = (root / "hwmon2/energy1_input").resolve()
    for stated, steps, resets in ((range_j, 20.0, 0), (None, 0.0, 1)):
        file.write_text(f"{2**32 - 5_000_000}\n")
        options = {"range_j": stated} if stated else {}
        with hwmon(root, chip="xe", sensor="energy1", **options) as meter:
            counter = Counter(meter.channels[0], 5000.0)
            counter.take(meter.read()[0])
            file.write_text("15000000\n")
            counter.take(meter.read()[0])
        assert (counter.total_j, counter.resets) == (pytest.approx(steps, abs=1e-6), resets)


@pytest.mark.parametrize(
    "options,fault,said",
    [
        ({"chip": "nouveau"}, Unreachable, "acpitz, amdgpu, corsairpsu, ina226, xe"),
        ({"chip": "amdgpu", "device": "0000:99:00.0"}, Unreachable, "no chip amdgpu 0000:99:00.0"),
        ({"chip": "acpitz"}, WrongDevice, "none; asked for was none by name"),
        ({"chip": "xe"}, WrongDevice, "energy1_input, energy2_input"),
        ({"chip": "xe", "sensor": "power7"}, WrongDevice, "asked for was power7"),
    ],
)
def test_a_chip_or_sensor_that_is_not_there_is_told_with_those_that_are(
    tmp_path, options, fault, said
):
    refused = pytest.raises(fault, match=said)
    with refused as told, hwmon(trees.hwmon(tmp_path), **options):
        pytest.fail("it opened")
    assert told.match(ASKED)


def test_a_sensor_that_vanishes_or_says_no_number_is_told(tmp_path):
    root = trees.hwmon(tmp_path)
    with hwmon(root, chip="amdgpu") as meter:
        file = (root / "hwmon1/power1_average").resolve()
        file.write_text("N/A\n")
        with pytest.raises(BadAnswer, match="holds 'N/A'"):
            meter.read()
        file.unlink()
        with pytest.raises(Unreachable, match="cannot be read"):
            meter.read()


def test_what_a_chip_feeds_must_be_said():
    with pytest.raises(UserError, match="has no `component`"):
        meters.load("hwmon")({"chip": "amdgpu"})


READ_ONCE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from joules import meters
try:
    with meters.load("hwmon")({"chip": "xe", "sensor": "energy1", "component": "gpu"},
                              root=Path(sys.argv[2])):
        print("opened")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_sensor_that_belongs_to_root_is_refused_with_the_command_that_opens_it(tmp_path):
    root = trees.hwmon(tmp_path)
    (root / "hwmon2/energy1_input").resolve().chmod(0o000)
    package = os.path.dirname(os.path.dirname(joules.__file__))
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [sys.executable, "-c", READ_ONCE, package, str(root)]
    prefix = drop if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True)
    assert done.stdout.startswith(f"{Refused.__name__} ") and "sudo chmod a+r" in done.stdout


# --- battery --------------------------------------------------------------------------------------


def battery(root, clock=None, **options):
    arguments = {"monotonic": clock} if clock else {}
    return meters.load("battery")(options, root=root, **arguments)


def test_a_battery_gives_its_power_while_it_discharges(tmp_path):
    clock, root = SimulatedClock(), trees.power_supply(tmp_path)
    charge = (root / "BAT0/energy_now").resolve()
    with battery(root, clock) as meter:
        assert meter.read()[0].power_w == 14.23 and not meter.channels[0].counts
        clock.sleep(3600.0)
        charge.write_text(f"{41_000_000 - 14_230_000}\n")
        meter.read()
        held = meter.facts()["held_against_charge"]
    assert held["integrated_j"] == pytest.approx(held["counted_j"]) == pytest.approx(51_228)


@pytest.mark.parametrize("current_ua", [1_200_000, -1_200_000])
def test_a_battery_that_tells_current_and_voltage_gives_their_product(tmp_path, current_ua):
    root = trees.power_supply(tmp_path, power_now=None, current_now=current_ua)
    with battery(root) as meter:
        assert meter.read()[0].power_w == pytest.approx(1.2 * 12.021)


def test_a_battery_that_is_charged_says_nothing_of_the_machine(tmp_path):
    root = trees.power_supply(tmp_path)
    with battery(root) as meter:
        (root / "BAT0/status").resolve().write_text("Charging\n")
        with pytest.raises(Unreachable, match="is Charging; expected Discharging"):
            meter.read()
    with pytest.raises(Unreachable, match="is Charging"), battery(root):
        pytest.fail("it opened")


def test_the_battery_of_a_mouse_is_not_the_machine_s(tmp_path):
    root = trees.power_supply(tmp_path)
    refused = pytest.raises(WrongDevice, match="has the batteries BAT0; asked for was BAT7")
    with refused, battery(root, battery="BAT7"):
        pytest.fail("it opened")
    (root / "BAT0").unlink()
    with pytest.raises(Unreachable, match="no battery of the machine"), battery(root):
        pytest.fail("it opened")


# --- pm_counters ----------------------------------------------------------------------------------


def cray(root, clock, **options):
    return meters.load("pm_counters")(
        options, root=root, monotonic=clock, epoch=lambda: EPOCH_S + clock()
    )


def test_a_node_gives_its_parts_and_each_accelerator_once(tmp_path):
    clock = SimulatedClock(50.0)
    root = trees.pm_counters(tmp_path, EPOCH_S + 49.96)
    with cray(root, clock) as meter:
        parts = {each.name: each.component for each in meter.channels}
        assert parts == {
            "energy": "wall",
            "cpu_energy": "cpu",
            "memory_energy": "dram",
            "accel0_energy": "gpu",
            "accel1_energy": "gpu",
        }
        readings = meter.read()
        assert [each.energy_j for each in readings] == [9e6, 4e6, 7e5, 2e6, 2_000_001.0]
        assert readings[0].age_s == pytest.approx(0.04, abs=1e-4)
        assert readings[0].moment_s == pytest.approx(49.96, abs=1e-4)
        clock.sleep(0.02)
        assert meter.read()[0].moment_s == readings[0].moment_s, "the same sample"
        assert meter.channels[0].update_interval_s == 0.1


def test_a_changed_power_cap_is_in_the_facts(tmp_path):
    clock, root = SimulatedClock(), trees.pm_counters(tmp_path, EPOCH_S)
    with cray(root, clock) as meter:
        assert meter.facts()["power_cap_changed"] is False
        (root / "generation").write_text("13\n")
        assert meter.facts()["power_cap_changed"] is True


def test_counters_can_be_chosen_and_those_that_are_missing_are_named(tmp_path):
    clock, root = SimulatedClock(), trees.pm_counters(tmp_path, EPOCH_S, accelerators=0)
    with cray(root, clock, counters=["energy"]) as meter:
        assert [each.name for each in meter.channels] == ["energy"]
    refused = pytest.raises(Unreachable, match="has no accel0_energy; expected some of: energy")
    with refused, cray(root, clock, counters=["accel0_energy"]):
        pytest.fail("it opened")


def test_a_machine_that_is_no_cray_and_a_counter_that_is_none_are_told(tmp_path):
    with (
        pytest.raises(Unreachable, match="no counter of the node"),
        cray(tmp_path, SimulatedClock()),
    ):
        pytest.fail("it opened")
    clock, root = SimulatedClock(), trees.pm_counters(tmp_path, EPOCH_S)
    with cray(root, clock) as meter:
        (root / "cpu_energy").write_text("unavailable\n")
        with pytest.raises(BadAnswer, match="holds 'unavailable'"):
            meter.read()
        (root / "cpu_energy").unlink()
        with pytest.raises(Unreachable, match="cannot be read"):
            meter.read()


# --- apple ----------------------------------------------------------------------------------------


def test_apple_s_parts_are_read_from_the_scripted_library_and_said_to_be_untried(
    tmp_path, monkeypatch
):
    with apple(tmp_path, monkeypatch), meters.load("apple")() as meter:
        parts = {each.component: reading.energy_j for each, reading in _pairs(meter)}
        facts = meter.facts()
    assert parts == {"cpu": 120.0, "gpu": 40.0, "dram": 9.0, "soc": 0.0}
    assert facts["untried"] and facts["modelled"] and "not tried" in meter.LABEL
    assert not any(each.counts for each in meter.channels), "an estimate is no measurement"


def _pairs(meter):
    return zip(meter.channels, meter.read(), strict=True)


def test_a_chip_without_a_counter_has_no_part_of_that_name(tmp_path, monkeypatch):
    with apple(tmp_path, monkeypatch):
        (library,) = tmp_path.glob(".venvs/meter-apple/lib/python3*/site-packages/zeus_*.py")
        library.write_text(ZEUS.replace("9_000, 0", "None, None"))
        with meters.load("apple")() as meter:
            assert [each.component for each in meter.channels] == ["cpu", "gpu"]


def test_a_meter_whose_packages_are_missing_names_the_command(tmp_path, monkeypatch):
    with apple(tmp_path, monkeypatch):
        (library,) = tmp_path.glob(".venvs/meter-apple/lib/python3*/site-packages/zeus_*.py")
        library.unlink()
        wanted = "zeus-apple-silicon is not installed.*install.sh meter apple"
        with pytest.raises(UserError, match=wanted), meters.load("apple")():
            pytest.fail("it opened")
