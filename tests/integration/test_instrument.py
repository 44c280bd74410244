"""Counters and CodeCarbon, on a fake powercap tree where real parts cannot be made to fail."""

import threading
import time
from types import SimpleNamespace

import pytest
from powercap_tree import codecarbon_reads, make_tree

from joules.core.errors import UserError
from joules.core.machine_facts import Component
from joules.core.places import PACKAGE
from joules.measure import instrument
from joules.meters import powercap, reader


@pytest.fixture
def tree(tmp_path):
    """A fake powercap tree: its root, its package zone and its DRAM zone."""
    return make_tree(tmp_path / "powercap")


def test_own_reader_takes_each_zone_once_and_neither_core_nor_mmio(tree):
    root, package, dram = tree
    with reader.CounterMeter(powercap.powercap_counters(root), 60) as meter:
        before = meter.total_j()
        package.add(100)
        dram.add(20)
        after = meter.total_j()
    assert after["cpu"] - before["cpu"] == pytest.approx(100)
    assert after["dram"] - before["dram"] == pytest.approx(20)
    assert after["gpu"] is None


def test_own_reader_catches_wraps_by_reading_often(tree):
    root, _, dram = tree  # wraps every 1,000 J
    with reader.CounterMeter(powercap.powercap_counters(root), 0.02) as meter:
        for _ in range(25):
            dram.add(100)
            time.sleep(0.05)
        assert meter.total_j()["dram"] == pytest.approx(2500)


def test_a_counter_that_cannot_be_read_is_counted_and_caught_up_with(tree):
    root, package, _ = tree
    with reader.CounterMeter(powercap.powercap_counters(root), 60) as meter:
        hidden = package.path / "hidden"
        (package.path / "energy_uj").rename(hidden)
        meter.total_j()
        assert meter.unreadable == 1
        hidden.rename(package.path / "energy_uj")
        package.add(5)
        assert meter.total_j()["cpu"] == pytest.approx(5)


def test_a_machine_without_counters_has_none(tmp_path):
    assert powercap.powercap_counters(tmp_path / "absent") == []
    with reader.CounterMeter([]) as meter:
        assert meter.total_j() == dict.fromkeys(("cpu", "gpu", "dram", "psys"))


def test_windows_and_tasks_have_the_energy_of_the_counter(tree, tmp_path):
    root, package, dram = tree
    meter = reader.CounterMeter(powercap.powercap_counters(root), 60)
    with codecarbon_reads(root), meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "measured"
        assert measured.facts().components["cpu"].source == "intel_rapl"
        with measured.tasks() as measure_task, measured.window("tasks") as window:
            energies = []
            for joules in (7.0, 0.001, 3.0):
                _, seconds, energy = measure_task(f"t{joules}", lambda j=joules: package.add(j))
                energies.append(energy)
                package.add(50)  # between tasks
                dram.add(2)
        assert [e.cpu for e in energies] == pytest.approx([7.0, 0.001, 3.0], rel=2e-6)
        assert window.energy_j.cpu == pytest.approx(160.001, rel=2e-6)
        assert window.energy_own_j.cpu == pytest.approx(160.001, rel=2e-6)
        assert window.energy_j.dram == pytest.approx(6.0)
        assert window.energy_j.gpu is None
        with measured.window("idle_after") as second:
            package.add(11)
        assert second.energy_j.cpu == pytest.approx(11, rel=2e-6), "a new tracker per window"
    assert window.energy_j.headline_j() == pytest.approx(160.001, rel=2e-6)


def test_two_readings_at_one_moment_do_not_count_the_same_time_twice(tree, tmp_path):
    """The tracker's own tick and the reading at a window's end, when both fall on a full second."""
    joules = SimpleNamespace(kWh=0.0)
    tracker = SimpleNamespace(_total_cpu_energy=joules, _total_gpu_energy=joules)
    tracker._last_measured_time = began = time.perf_counter()

    def read_slowly():
        passed_s = time.perf_counter() - tracker._last_measured_time
        time.sleep(0.05)
        joules.kWh += 1.0 * passed_s / 3.6e6  # one watt

    tracker._do_measurements = read_slowly
    window = instrument.MeasuredWindow("idle_cold")
    with reader.CounterMeter([]) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        measured._keep_readings(tracker, window)
        time.sleep(0.2)
        both = [threading.Thread(target=tracker._do_measurements) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
    assert window.readings[-1].cpu_j <= tracker._last_measured_time - began
    assert len(window.readings) == 2


def test_a_tracker_that_read_long_before_or_after_its_window_or_task_shows_it(
    tree, tmp_path, monkeypatch
):
    root, package, _ = tree
    real = instrument.make_tracker

    def slow(late_start=0.0, late_stop=0.0):
        def make(*arguments):
            tracker = real(*arguments)
            start, start_task, stop_task = tracker.start, tracker.start_task, tracker.stop_task
            tracker.start = lambda: (start(), time.sleep(late_start))
            tracker.start_task = lambda name: (start_task(name), time.sleep(late_start))
            tracker.stop_task = lambda name: (time.sleep(late_stop), stop_task(name))[1]
            return tracker

        monkeypatch.setattr(instrument, "make_tracker", make)

    with codecarbon_reads(root), reader.CounterMeter([]) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        slow(late_start=0.3)
        with measured.window("load") as window:
            pass
        assert window.late_s >= 0.3
        with measured.tasks() as measure_task:
            measure_task("t", lambda: None)
        assert measured.tasks_late_s >= 0.3
        slow(late_stop=0.3)
        with measured.tasks() as measure_task:
            measure_task("t", lambda: None)
        assert measured.tasks_late_s >= 0.3


def test_a_window_without_energy_from_codecarbon_is_an_error(tree, tmp_path, monkeypatch):
    with codecarbon_reads(tree[0]), reader.CounterMeter([]) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        real = instrument.make_tracker

        def dumb(*arguments):
            tracker = real(*arguments)
            tracker.stop = lambda: None
            return tracker

        monkeypatch.setattr(instrument, "make_tracker", dumb)
        with (
            pytest.raises(RuntimeError, match="no energy for the window load"),
            measured.window("load"),
        ):
            pass


def test_a_counter_that_may_not_be_read_is_named_with_mode_owner_and_remedy(tmp_path, monkeypatch):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("1\n")
    (zone / "energy_uj").chmod(0o400)
    monkeypatch.setattr(instrument.os, "access", lambda file, mode: False)
    said = instrument.why_no_counter(tmp_path)
    assert str(zone / "energy_uj") in said
    assert "mode 0400 and owner" in said
    assert "sudo chmod a+r" in said


def test_without_a_counter_the_tier_is_estimated_and_says_why(tmp_path):
    parts = {"cpu": Component("cpu_load"), "gpu": Component("none")}
    tier, reason = instrument.tier_of(parts)
    assert tier == "estimated"
    assert "model" in reason
    assert "has no energy counter" in instrument.why_no_counter(tmp_path)


def test_sampled_gpu_power_lowers_the_tier():
    parts = {"cpu": Component("intel_rapl"), "gpu": Component("power_samples")}
    assert instrument.tier_of(parts)[0] == "sampled"


def test_a_lower_tier_than_required_is_refused_with_reason_and_remedy():
    instrument.require_tier("measured", "", "sampled")
    with pytest.raises(UserError, match=r"`estimated`.*no counter here.*`measured`.*require_tier"):
        instrument.require_tier("estimated", "no counter here.", "measured")


def test_settings_that_codecarbon_would_take_silently_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECARBON_PUE", "1.5")
    with pytest.raises(UserError, match=r"CODECARBON_PUE.*[Uu]nset"):
        instrument.make_tracker("x", "NLD", tmp_path)
    monkeypatch.delenv("CODECARBON_PUE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\npue=2\n")
    with pytest.raises(UserError, match=r"\.codecarbon\.config"):
        instrument.refuse_hidden_settings()


def test_a_swallowed_constructor_error_is_raised(tmp_path):
    with pytest.raises(UserError, match="gave no reason"):
        instrument.make_tracker("x", "NLD", tmp_path / "absent")


def test_the_hash_of_the_instrument_changes_with_each_of_its_modules(tmp_path, monkeypatch):
    before = instrument.modules_sha256()
    for name in instrument.INSTRUMENT_MODULES:
        copy = tmp_path / f"{name}.py"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((PACKAGE / f"{name}.py").read_bytes())
    monkeypatch.setattr(instrument, "PACKAGE", tmp_path)
    assert instrument.modules_sha256() == before
    seen = {before}
    for name in instrument.INSTRUMENT_MODULES:
        with open(tmp_path / f"{name}.py", "a", encoding="utf-8") as module:
            module.write("# x\n")
        seen.add(instrument.modules_sha256())
    assert len(seen) == 1 + len(instrument.INSTRUMENT_MODULES)
