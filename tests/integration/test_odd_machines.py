"""Machines on which a part is missing: null in the record, and on.

Parts are taken away for real, in a mount namespace or by another user's id, where this machine lets
that be done; what no machine at hand lacks is a library's call that raises what it raises there.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import scripted_driver
from ordinary_user import PACKAGES, WITHOUT_ENTRY, is_possible, readable_python
from small_study import CHECKOUT

from joules.core.places import SCRIPTS
from joules.machine import machine_state
from joules.machine.asking import known

OBSERVE = """
import json, msgspec, sys
from joules.machine import machine_state
seen = {"state": machine_state.observe(), "facts": machine_state.machine_facts(["psutil"])}
seen |= {"temperature": machine_state.package_temperature(), "cores": machine_state.cores()}
sys.stdout.write(msgspec.json.encode(seen).decode())
"""
# What psutil and the system raise where a part is missing, and of what field that is the source.
PARTS: dict[str, tuple[Any, str, Exception, str, Any]] = {
    "power supply": (
        *(psutil, "sensors_battery", FileNotFoundError("/sys/class/power_supply")),
        *("power_plugged", None),
    ),
    "no batteries at all": (
        *(psutil, "sensors_battery", AttributeError("sensors_battery")),
        *("power_plugged", None),
    ),
    "current frequency": (
        *(psutil, "cpu_freq", NotImplementedError("can't find current frequency file")),
        *("frequency_mhz", []),
    ),
    "sensors": (
        *(psutil, "sensors_temperatures", AttributeError("sensors_temperatures")),
        *("temperatures", []),
    ),
    "sensors that cannot be read": (
        *(psutil, "sensors_temperatures", OSError(5, "Input/output error")),
        *("temperatures", []),
    ),
    "memory": (
        *(psutil, "virtual_memory", KeyError(b"MemFree:")),
        *("memory_available_bytes", None),
    ),
    "time of boot": (
        *(psutil, "boot_time", RuntimeError("line 'btime' not found in /proc/stat")),
        *("boot_time", None),
    ),
    "load average": (
        os,
        "getloadavg",
        OSError("load average was unobtainable"),
        "load_average",
        [],
    ),
    "GPUs": (machine_state, "gpu_state", RuntimeError("driver gone"), "gpus", []),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_null_and_the_others_are_observed(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, error, field, expected = PARTS[part]

    def missing(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, missing)
    state = machine_state.observe()
    assert getattr(state, field) == expected
    assert machine_state.machine_facts([]).memory_bytes > 0
    assert machine_state.package_temperature() is None or part not in (
        "sensors",
        "sensors that cannot be read",
    )


def test_a_library_without_the_function_is_a_missing_part_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("sensors_battery", "sensors_temperatures", "cpu_freq"):
        monkeypatch.delattr(psutil, name, raising=False)
    state = machine_state.observe()
    assert (state.power_plugged, state.temperatures, state.frequency_mhz) == (None, [], [])
    assert machine_state.package_temperature() is None


def test_swapping_that_the_kernel_does_not_count_is_null_and_not_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = machine_state._read
    without: Callable[[Any], str | None] = lambda path: (  # noqa: E731
        None if str(path) == "/proc/vmstat" else read(path)
    )
    monkeypatch.setattr(machine_state, "_read", without)
    state = machine_state.observe()
    assert (state.swap_in_bytes, state.swap_out_bytes) == (None, None)


def test_stolen_time_that_the_system_does_not_count_is_null_and_not_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_macos = namedtuple("of_macos", "user nice system idle")
    monkeypatch.setattr(psutil, "cpu_times", lambda: of_macos(1.0, 0.0, 1.0, 8.0))
    before, after = machine_state.cpu_use(), machine_state.cpu_use()
    assert machine_state.foreign_use(before, after, set(), 1).steal_share is None


def test_logical_cores_count_where_physical_ones_are_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = psutil.cpu_count
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: counted() if logical else None)
    cores = machine_state.cores(tmp_path)
    allowed = len(psutil.Process().cpu_affinity() or [])
    assert (cores.physical, cores.are_physical, cores.usable) == (None, False, allowed)


def test_cores_that_affinity_forbids_are_not_usable() -> None:
    first = min(os.sched_getaffinity(0))
    seen = observed(["taskset", "-c", str(first)])
    assert (seen["cores"]["allowed"], seen["facts"]["usable_cores"]) == (1, 1)


def test_only_what_raises_is_unknown() -> None:
    assert known(int, "7") == 7
    assert known(int, "seven") is None
    assert known(lambda: 1 / 0) is None


def observed(prefix: list[str], script: str = "", **variables: str) -> dict[str, Any]:
    """Return what is observed by a new process, below a prefix such as `unshare -m`."""
    here = [sys.executable, "-P", "-c", OBSERVE]
    command = (
        [*prefix, "bash", "-ec", f'{script}\nexec "$@"', "bash", *here] if script else prefix + here
    )
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SCRIPTS), **variables},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


own_mounts = pytest.mark.skipif(
    not is_possible("unshare", "-m", "mount", "-t", "tmpfs", "none", "/sys/class"),
    reason="file systems cannot be laid over /sys here (needs root)",
)


@own_mounts
def test_a_machine_without_power_supply_and_sensors_is_observed() -> None:
    seen = observed(["unshare", "-m"], "mount -t tmpfs none /sys/class")
    assert seen["state"]["power_plugged"] is None
    assert (seen["state"]["temperatures"], seen["temperature"]) == ([], None)


@own_mounts
def test_a_clock_policy_without_a_current_frequency_is_observed() -> None:
    """As on some servers: psutil raises NotImplementedError, and only there."""
    script = """
    cp -r --no-preserve=mode /sys/devices/system/cpu/cpu0/topology /tmp/topology.$$
    grep -v MHz /proc/cpuinfo >/tmp/cpuinfo.$$
    mount --bind /tmp/cpuinfo.$$ /proc/cpuinfo
    mount -t tmpfs none /sys/devices/system/cpu
    mkdir -p /sys/devices/system/cpu/cpu0 /sys/devices/system/cpu/cpufreq/policy0
    mv /tmp/topology.$$ /sys/devices/system/cpu/cpu0/topology
    rm /tmp/cpuinfo.$$
    echo schedutil >/sys/devices/system/cpu/cpufreq/policy0/scaling_governor
    """
    seen = observed(["unshare", "-m"], script)
    assert seen["state"]["frequency_mhz"] == []
    assert seen["facts"]["cpu"]


@own_mounts
def test_hybrid_cores_are_recorded() -> None:
    script = """
    mount -t tmpfs none /sys/devices
    mkdir -p /sys/devices/cpu_core /sys/devices/cpu_atom /sys/devices/system/cpu
    echo 0-11 >/sys/devices/cpu_core/cpus
    echo 12-15 >/sys/devices/cpu_atom/cpus
    """
    facts = observed(["unshare", "-m"], script)["facts"]
    assert (facts["performance_cores"], facts["efficiency_cores"]) == (12, 4)


@pytest.mark.parametrize(
    ("name", "held_by"),
    [
        ("nvmlDeviceGetCurrentClocksEventReasons", []),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", []),  # drivers before version 535
        ("of_no_driver", None),
    ],
)
def test_what_holds_a_card_s_clocks_is_asked_by_both_names_and_null_where_none_is_known(
    name: str, held_by: list[str] | None, tmp_path: Path
) -> None:
    renamed = f"-DnvmlDeviceGetCurrentClocksEventReasons={name}"
    (card,) = observed([], **scripted_driver.variables(tmp_path, renamed))["state"]["gpus"]
    assert (card["driver"], card["clocks_held_by"]) == ("scripted", held_by)


def test_a_real_quota_of_half_a_core_leaves_one(tmp_path: Path) -> None:
    group = Path("/sys/fs/cgroup/cpu") / f"joules-test-{os.getpid()}"
    inner = group / "inner"
    try:
        inner.mkdir(parents=True)
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError as error:
        pytest.skip(f"no group of version 1 can be made here: {error}")
    try:
        seen = observed([], f"echo $$ >{inner}/cgroup.procs")
    finally:
        inner.rmdir()
        group.rmdir()
    facts = seen["facts"]
    assert (facts["cgroup_quota_cores"], facts["usable_cores"]) == (0.5, 1)


def test_a_user_without_entry_and_home_can_examine_the_machine() -> None:
    python = readable_python()
    done = subprocess.run(
        [*WITHOUT_ENTRY, python, "-P", "-m", "joules.commands.doctor"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"workflow/scripts:{PACKAGES}"},
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1].startswith("The study `demo` can"), done.stderr
    assert "ok     CodeCarbon" in done.stdout


def test_code_carbon_starts_for_a_user_without_entry_and_home() -> None:
    """It asks for the home as soon as a tracker is made, and pathlib raises there."""
    python = readable_python()
    code = "import sys; from pathlib import Path; from joules.machine import surroundings\n"
    code += "if sys.argv[2] == 'settled': surroundings.settle(Path(sys.argv[1]))\n"
    code += "from joules.measure import instrument\n"
    code += "instrument.make_tracker('test', 'NLD', Path(sys.argv[1]))\nprint('made')\n"
    ends = {}
    for how in ("settled", "as it is"):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            done = subprocess.run(
                [*WITHOUT_ENTRY, python, "-P", "-c", code, folder, how],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{SCRIPTS}:{PACKAGES}"},
                cwd=folder,
                capture_output=True,
                text=True,
            )
        ends[how] = (done.returncode, done.stdout, done.stderr.strip().splitlines()[-1:])
    assert ends["settled"][:2] == (0, "made\n"), ends
    assert ends["as it is"][0] != 0, "nothing had to be settled: this test shows nothing"


@own_mounts
def test_a_home_that_is_mounted_read_only_is_harmless(tmp_path: Path) -> None:
    script = f"mount -t tmpfs -o ro none {tmp_path}"
    assert observed(["unshare", "-m"], script, HOME=str(tmp_path))["facts"]["cpu"]
    code = "import os, sys; from pathlib import Path; from joules.machine import surroundings\n"
    code += "os.environ.pop('XDG_CACHE_HOME', None)  # this Python's start may have settled it\n"
    code += "surroundings.settle(Path(sys.argv[1])); from matplotlib import pyplot\n"
    code += "from joules.measure import instrument\n"
    code += "instrument.make_tracker('test', 'NLD', Path('/tmp'))\n"
    code += "print(os.environ['XDG_CACHE_HOME'], os.environ['MPLCONFIGDIR'])"
    kept = tmp_path.parent / "clone"
    kept.mkdir()
    laid_over = ["unshare", "-m", "sh", "-ec", f'{script}; exec "$@"', "sh"]
    done = subprocess.run(
        [*laid_over, sys.executable, "-P", "-c", code, str(kept)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SCRIPTS), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{kept}/.snakemake/cache {kept}/.snakemake/matplotlib\n", done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["/proc/nobody/verdicts.jsonl", "/proc/nobody"])
def test_verdicts_that_cannot_be_written_are_refused_by_make_before_the_work(
    out: str, tmp_path: Path
) -> None:
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"task_id": "HumanEval/0", "completion": "    return True\\n"}\n')
    done = subprocess.run(
        # the environment at hand, in place of one that make would fetch
        ["make", "grade", f"SAMPLES={samples}", f"OUT={out}", "install=true"]
        + [f"tool=PYTHONPATH=workflow/scripts {sys.executable} -P -m"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1, done.stderr
    assert said[0].startswith(f"error: {out} cannot be written")
    assert said[0].endswith("Nothing was graded.")
    assert "pass@" not in done.stdout
