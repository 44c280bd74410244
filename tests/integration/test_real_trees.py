"""The counters of real machines: trees as kernels make them, read by the product and by CodeCarbon.

Both run unpatched in a mount namespace of their own, with counters that move with the load.
"""

import os
import subprocess
import sys

import pytest
import yaml
from ordinary_user import PACKAGES, WITHOUT_ENTRY, readable_python
from powercap_tree import lay_out
from real_trees import (
    CHECKOUT,
    DIFFERENCE,
    HERE,
    LAYOUTS,
    ORDINARY,
    OTHERS,
    check_energy,
    on_machine,
    windows_on,
)
from scripted import LIMITS

from joules.measure.validity import SeenOfCounters, SeenOfMeters, counter_checks
from joules.meters import powercap

SECONDS, TRIES = 6.0, 6
# At rest but for the middle third of a window, in which the counter wraps.
WRAPS, AT_WORK = "hz=500 fixed=60 rest=0.2 near=4", "SIGALRM SIGALRM"
MASKED = (
    "mount -t tmpfs -o ro,size=0 none /sys/devices/virtual/powercap"  # as container runtimes do
)


def codes(seen):
    """Return the rules that a window's counters break, as a run would judge them."""
    window = seen["windows"][-1]
    counters = SeenOfCounters(**window["seen"])
    theirs, ours = window["codecarbon_cpu_j"], window["own_cpu_j"]
    crossed = {"cpu": theirs / ours - 1 if ours else 1.0} if ours is not None else {}
    meters = SeenOfMeters(counters, 1.0, 0.0, 0.0, crossed, 0.0)
    return {each.code for each in counter_checks(meters, True, LIMITS) if each.broken}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_readers_have_the_energy_of_the_counters_files(layout):
    seen = check_energy(layout, SECONDS, TRIES)
    assert codes(seen) == set()


def test_every_layout_has_its_right_energy_or_a_test_of_what_is_wrong_with_it():
    layouts = yaml.safe_load((HERE / "sysfs/layouts.yaml").read_text())
    refused = {"psys-only", "core-only", "dangling", "no-range", "arm"}
    assert set(layouts) == set(LAYOUTS) | refused


def test_mirrored_dies_are_counted_once_and_named():
    seen = windows_on("amd-mirrored", seconds=1.0)
    assert seen["windows"][0]["seen"]["counters"] == 1


@pytest.mark.parametrize(
    ("layout", "counted"),
    [("amd-mirrored", ["intel-rapl:0"]), ("intel-server-2", ["intel-rapl:0", "intel-rapl:1"])],
)
def test_mirrored_dies_are_known_where_much_energy_passes_between_two_readings(
    layout, counted, tmp_path, monkeypatch
):
    """As on a busy machine, which keeps this process from running in between."""
    files = [
        each / "energy_uj" for each in sorted(lay_out(layout, tmp_path / "powercap").glob("*:[01]"))
    ]
    for number, file in enumerate(files, start=1):
        file.chmod(0o644)
        file.write_text(f"{number * 50_000_000}\n")
    shown_uj = powercap._microjoule

    def and_then_wait(path):
        seen_uj = shown_uj(path)
        for file in {each.stat().st_ino: each for each in files}.values():
            file.write_text(f"{shown_uj(file) + 6_000_000}\n")
        return seen_uj

    monkeypatch.setattr(powercap, "_microjoule", and_then_wait)
    meter = powercap.Meter(root=tmp_path / "powercap/class/powercap")
    assert [each.name for each in meter.channels if each.component == "cpu"] == counted


@pytest.mark.parametrize(
    ("layout", "before", "words"),
    [
        ("psys-only", (), "no counter of a processor package, only psys"),
        ("core-only", ORDINARY, "intel-rapl:0/energy_uj has mode 0000 and owner 65534"),
        ("intel-desktop", ORDINARY, "sudo chmod a+r /sys/class/powercap/*/energy_uj"),
        ("intel-server-2", ORDINARY, "intel-rapl:0/energy_uj has mode 0400 and owner 65534"),
        ("dangling", (), "/sys/class/powercap/intel-rapl:0 is a link that leads nowhere"),
        ("arm", (), "has no energy counter"),
    ],
)
def test_a_processor_that_is_not_counted_whole_is_not_measured_and_says_why(
    layout, before, words, tmp_path
):
    others = tmp_path / "others.sh"
    others.write_text(OTHERS if before else "")
    seen = windows_on(layout, "off", 1.0, before=before, zones=("", ""), EXTRA=str(others))
    assert seen["tier"] == "estimated"
    assert words in seen["reason"]
    assert seen["components"]["cpu"]["source"] == "cpu_load", "nothing else stands for it"
    assert seen["windows"][0]["own_cpu_j"] is None


def test_an_ordinary_user_is_told_the_command_that_helps_and_it_helps():
    """Another real user id than the files' owner: as on every machine that was just started."""
    doctor = [*WITHOUT_ENTRY, "env", f"PYTHONPATH=workflow/scripts:{PACKAGES}", readable_python()]
    doctor += ["-P", "-m", "joules.commands.doctor"]
    script = """
    "$@" >$scratch/first
    remedy=$(sed -n 's/.*before the study: sudo //p' $scratch/first)
    eval "$remedy"
    "$@" >$scratch/second
    grep '^[a-z]* *energy tier' $scratch/first $scratch/second
    """
    done = on_machine("intel-server-2", "hz=100", "bash", "-ec", script, "bash", *doctor)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()
    assert "intel-rapl:0/energy_uj has mode 0400 and owner 0" in first
    assert "estimated" in first
    assert first.endswith("sudo chmod a+r /sys/class/powercap/*/energy_uj")
    assert second.endswith("ok     energy tier        measured. CPU energy comes from counters.")


def test_one_package_of_two_that_cannot_be_read_makes_the_whole_processor_a_model(tmp_path):
    hide = tmp_path / "hide.sh"
    hide.write_text(
        "cd /sys/devices/virtual/powercap/intel-rapl/intel-rapl:1\nrm energy_uj\nmkdir energy_uj\n"
    )
    seen = windows_on("intel-server-2", "off", 1.0, zones=("", ""), EXTRA=str(hide))
    assert seen["tier"] == "estimated"


def test_in_a_container_that_masks_the_counters_the_folder_to_mount_is_named(tmp_path):
    mask = tmp_path / "mask.sh"
    mask.write_text(MASKED + "\n")
    seen = windows_on("intel-desktop", "off", 1.0, zones=("", ""), EXTRA=str(mask))
    assert "mounting the folder of links does not help" in seen["reason"]
    assert (
        "/sys/devices/virtual/powercap must be mounted read-only and be unmasked"
        in (seen["reason"])
    )


def test_a_counter_that_is_reset_in_a_window_is_named_and_is_no_energy():
    seen = windows_on("intel-desktop", seconds=4.0, SIGNALS="SIGUSR1")
    window = seen["windows"][0]
    assert "counter_reset" in codes(seen)
    assert window["own_cpu_j"] < 1000 < window["codecarbon_cpu_j"], "CodeCarbon takes it for a wrap"
    assert "cross_check" in codes(seen)


def test_a_counter_that_freezes_for_a_while_in_a_window_is_named():
    seen = windows_on("intel-desktop", seconds=12.0, SIGNALS="SIGUSR2")
    assert codes(seen) == {"counter_stuck"}
    assert seen["windows"][0]["seen"]["still"] == ["cpu intel-rapl:0"]


def test_one_frozen_package_of_two_is_named(tmp_path):
    """The other one moves, so that the processor's energy is not 0."""
    still = tmp_path / "still.sh"
    still.write_text(
        "mkdir $scratch/other\n"
        "mount -t tmpfs none $scratch/other\n"
        "cp -a /sys/devices/virtual/powercap/intel-rapl/intel-rapl:1/. $scratch/other\n"
        "echo 1234567 >$scratch/other/energy_uj\n"
    )
    over = "mount --bind $scratch/other /sys/devices/virtual/powercap/intel-rapl/intel-rapl:1"
    command = f'{over}; exec "$@"'
    seen = windows_on(
        "intel-server-2", seconds=4.0, before=("bash", "-c", command, "bash"), EXTRA=str(still)
    )
    assert "counter_stuck" in codes(seen)
    assert "cpu intel-rapl:1" in seen["windows"][0]["seen"]["still"]


def test_a_wrap_inside_a_window_changes_nothing():
    seen = windows_on("intel-desktop", WRAPS, 9.0, SIGNALS=AT_WORK)
    window = seen["windows"][0]
    truth = pytest.approx(window["true_cpu_j"], rel=DIFFERENCE)
    assert window["wrapped"] and window["true_cpu_j"] > 150
    assert (window["own_cpu_j"], window["codecarbon_cpu_j"]) == (truth, truth)
    assert codes(seen) == set()


def test_a_counter_of_unknown_range_is_named_and_a_wrap_of_it_is_a_reset():
    quiet = windows_on("no-range", seconds=1.0, zones=("intel-rapl:0", ""))
    assert codes(quiet) == {"counter_range_unknown"}
    assert quiet["components"]["cpu"].get("wrap_range_j") is None, "missing is not 0"
    wrapping = windows_on("no-range", WRAPS, 9.0, zones=("intel-rapl:0", ""), SIGNALS=AT_WORK)
    assert wrapping["windows"][0]["wrapped"], "inside the window"
    assert {"counter_range_unknown", "counter_reset"} <= codes(wrapping)
    assert 0 < wrapping["windows"][0]["own_cpu_j"] < 1000


@pytest.mark.parametrize("tool", ["rocm-smi", "nvidia-smi"])
def test_a_tool_on_the_path_that_lists_no_device_is_no_gpu_counter(tool, tmp_path):
    (tmp_path / tool).write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / tool).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    seen = windows_on("intel-desktop", seconds=1.0, PATH=path)
    assert seen["components"]["gpu"] == {"source": "none"}
    assert seen["tier"] == "measured"
    assert seen["reason"] == "CPU energy comes from counters."


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_variable_that_names_cards_on_a_machine_without_any_is_harmless(variable):
    seen = windows_on("intel-desktop", seconds=1.0, **{variable: "0"})
    assert seen["tier"] == "measured"


def test_the_doctor_names_a_counter_of_unknown_range():
    done = on_machine("no-range", "hz=100", sys.executable, "-P", "-m", "joules.commands.doctor")
    assert "`max_energy_range_uj` is 0" in done.stdout, done.stdout + done.stderr


def test_the_long_trial_of_the_makefile_is_this_tests_own_function():
    said = subprocess.run(
        ["make", "-n", "trial-counters"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert "tests/real_trees.py" in said.stdout
