"""Counters and CodeCarbon, on a fake powercap tree where real parts cannot be made to fail."""

import threading
import time
from types import SimpleNamespace

import pytest
from powercap_tree import codecarbon_reads, counters, make_tree

from joules.core.errors import UserError
from joules.machine.processes import wait_until
from joules.measure import instrument, tiers
from joules.meters import powercap, reader


@pytest.fixture
def tree(tmp_path):
    """A fake powercap tree: its root, its package zone and its DRAM zone."""
    return make_tree(tmp_path / "powercap")


def test_own_reader_takes_each_zone_once_and_neither_core_nor_mmio(tree):
    root, package, dram = tree
    with reader.OwnReader(counters(root), 60, 1e6) as meter:
        before = meter.total_j()
        package.add(100)
        dram.add(20)
        after = meter.total_j()
    assert after["cpu"] - before["cpu"] == pytest.approx(100)
    assert after["dram"] - before["dram"] == pytest.approx(20)
    assert after["gpu"] is None


def test_own_reader_catches_wraps_by_reading_often(tree):
    root, _, dram = tree  # wraps every 1,000 J
    with reader.OwnReader(counters(root), 0.02, 1e6) as meter:
        (moments_s,) = (each.moments_s for each in meter._of("dram"))
        for _ in range(25):
            before = len(moments_s)
            dram.add(100)
            # The one that is being taken may have read the file before.
            assert wait_until(lambda seen=before: len(moments_s) >= seen + 2, 60)
        assert meter.total_j()["dram"] == pytest.approx(2500)


def test_a_counter_that_cannot_be_read_is_counted_and_caught_up_with(tree):
    root, package, _ = tree
    with reader.OwnReader(counters(root), 60, 1e6) as meter:
        hidden = package.path / "hidden"
        (package.path / "energy_uj").rename(hidden)
        meter.total_j()
        assert meter.unreadable == 1
        hidden.rename(package.path / "energy_uj")
        package.add(5)
        assert meter.total_j()["cpu"] == pytest.approx(5)


def test_a_machine_without_counters_has_none(tmp_path):
    assert powercap.Meter(root=tmp_path / "absent").channels == []
    with reader.OwnReader([]) as meter:
        assert meter.total_j() == dict.fromkeys(("cpu", "gpu", "dram", "psys"))


def test_windows_and_tasks_have_the_energy_of_the_counter(tree, tmp_path):
    root, package, dram = tree
    meter = reader.OwnReader(counters(root), 60, 1e6)
    with codecarbon_reads(root), meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "measured"
        assert measured.facts().components["cpu"].source == "intel_rapl"
        with measured.window("tasks") as window, measured.tasks() as lap:
            energies = []
            for joules in (7.0, 0.001, 3.0):
                package.add(joules)
                energies.append(lap().energy_j.cpu)
                package.add(50)  # between tasks
                dram.add(2)
                lap()
        assert energies == pytest.approx([7.0, 0.001, 3.0], rel=2e-6)
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
    with reader.OwnReader([]) as meter:
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

    def slow(late_start=0.0, late_reading=0.0):
        def make(*arguments):
            tracker = real(*arguments)
            start, read = tracker.start, tracker._measure_power_and_energy
            tracker.start = lambda: (start(), time.sleep(late_start))
            tracker._measure_power_and_energy = lambda: (time.sleep(late_reading), read())
            return tracker

        monkeypatch.setattr(instrument, "make_tracker", make)

    with codecarbon_reads(root), reader.OwnReader([]) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        slow(late_start=0.3)
        with measured.window("load") as window:
            pass
        assert window.late_s >= 0.3
        slow(late_reading=0.3)
        with measured.tasks() as lap:
            lap()
        assert measured.tasks_late_s >= 0.3


def test_a_window_without_energy_from_codecarbon_is_an_error(tree, tmp_path, monkeypatch):
    with codecarbon_reads(tree[0]), reader.OwnReader([]) as meter:
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


def test_a_lower_tier_than_required_is_refused_with_reason_and_remedy():
    tiers.require_tier("measured", "", "sampled")
    with pytest.raises(UserError, match=r"`estimated`.*no counter here.*`measured`.*require_tier"):
        tiers.require_tier("estimated", "no counter here.", "measured")


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


@pytest.mark.parametrize(
    ("name", "generic"), [("Imaginary Processor 9000", True), ("AMD EPYC 7763", False)]
)
def test_a_processor_that_codecarbon_does_not_know_has_a_generic_model_of_power(
    name, generic, tmp_path, monkeypatch
):
    import codecarbon.core.cpu as cpu
    from codecarbon.core import hardware_cache

    monkeypatch.setattr(cpu, "detect_cpu_model", lambda: name)
    hardware_cache.clear_cache()
    with reader.OwnReader([]) as meter:
        part = instrument.Instrument("NLD", tmp_path, meter).components["cpu"]
    hardware_cache.clear_cache()
    assert (part.source, part.tier) == ("cpu_load", "estimated")
    assert part.generic_model is generic
    if generic:
        assert part.model_power_w == cpu.DEFAULT_POWER_PER_CORE * cpu.count_cpus()
