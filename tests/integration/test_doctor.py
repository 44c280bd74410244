"""The doctor: real runs on this machine, and findings on machines made up from their files."""

import os
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import yaml
from msgspec.structs import replace
from real_trees import OTHERS, on_machine
from small_study import CHECKOUT

from joules.commands import machine_findings, study_findings
from joules.commands.findings import Finding
from joules.commands.needs import Disk, Making, ModelState, makings
from joules.core.catalogue import catalogue_from
from joules.core.conditions import Limits
from joules.core.files import write_json
from joules.core.machine_facts import ForeignProcess, ForeignUse, Virtualisation
from joules.core.reading import LoadedStudy, load_study
from joules.machine import machine_state
from joules.measure import instrument, protocol
from joules.meters import all_meters, nvml
from joules.meters.reader import OwnReader
from joules.runtimes import load, names

PYTHON = [sys.executable, "-P", "-m", "joules.commands.doctor"]
ENVIRONMENT = {"PYTHONPATH": "workflow/scripts", "PATH": os.environ["PATH"], "HOME": "/nowhere"}
UNREADABLE = """
unprivileged() { setpriv --bounding-set=-dac_override,-dac_read_search "$@"; }
unprivileged "$@" >"$REPORTS/before" || true
remedy=$(grep -o 'sudo chmod .*' "$REPORTS/before")
eval "${remedy#sudo }"
unprivileged "$@" >"$REPORTS/after" || true
"""


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *arguments],
        cwd=CHECKOUT,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
    )


def laid(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"study": "own", **changes}, sort_keys=False))
    return str(path)


def in_folder(folder: Path) -> LoadedStudy:
    """Return the demonstration study as if it lay in another folder."""
    default = load_study()
    return LoadedStudy(default.study, default.catalogue, folder)


def line(output: str, what: str) -> str:
    return next(each for each in output.splitlines() if each[7:].startswith(what))


@pytest.fixture(scope="module")
def tier() -> str:
    """This machine's energy tier, as a run would have it."""
    with tempfile.TemporaryDirectory() as folder:
        return instrument.Instrument("NLD", Path(folder), OwnReader(all_meters())).tier


def test_the_demonstration_can_start_here(tier):
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("The study `demo` can start here")
    assert f" {tier}. " in line(done.stdout, "energy tier")
    assert line(done.stdout, "sandbox").startswith("ok     sandbox")
    for what in ("processor", "SIMD", "threads", "memory", "disk", "governor", "turbo"):
        assert line(done.stdout, what)
    for what in ("virtualisation", "background load", "CodeCarbon", "model parrot-1m"):
        assert line(done.stdout, what)
    for name in load_study().study.runtimes:
        assert line(done.stdout, f"runtime {name}").startswith("ok ")


def test_a_study_that_asks_for_counters_is_blocked_where_there_are_none(tier):
    if tier == "measured":
        pytest.skip("this machine has energy counters")
    done = run("config/study.yaml")
    assert done.returncode == 1
    energy = line(done.stdout, "energy tier")
    assert energy.startswith("blocks ")
    assert f"{tier}; the study asks for `measured` (`require_tier`)" in energy
    assert "/sys/class/powercap" in energy
    assert "cannot start here" in done.stdout.splitlines()[-1]
    assert "energy tier" in done.stdout.splitlines()[-1]
    assert "to be fetched, 4.68 GB" in line(done.stdout, "model qwen2.5-coder-7b-instruct")


def test_everything_that_is_in_the_way_is_named_at_once(tmp_path):
    first = next(name for name in names() if "ignore_eos" in load(name).CANNOT_HOLD)
    unknown = f"{first}_x"
    config = laid(
        tmp_path,
        models=["parrot-1m", "parrot-1n"],
        runtimes=[first, unknown],
        kinds=["fixed"],
        require_tier="estimated",
    )
    done = run(config, CODECARBON_PUE="2")
    assert done.returncode == 1
    assert "Did you mean parrot-1m" in line(done.stdout, "model parrot-1n")
    assert "CODECARBON_PUE" in line(done.stdout, "CodeCarbon")
    assert "`runtime_options` has no entry" in line(done.stdout, f"runtime {unknown}")
    assert "cannot hold ignore_eos" in line(done.stdout, f"runtime {first} ")
    named = f"study, CodeCarbon, runtime {first}, runtime {unknown}, model parrot-1n"
    assert done.stdout.splitlines()[-1].endswith(f"cannot start here: {named}.")


def test_a_config_with_a_mistake_ends_with_two_and_no_report(tmp_path):
    done = run(laid(tmp_path, models=["parrot-1m"], runtimes=["x"], blokcs=3))
    assert (done.returncode, done.stdout) == (2, "")
    assert "blokcs" in done.stderr and "Traceback" not in done.stderr


def test_the_command_that_is_named_for_unreadable_counters_makes_them_readable(tmp_path):
    """On a machine whose counters have mode 0400 and belong to another user."""
    others = tmp_path / "others.sh"
    others.write_text(OTHERS)
    command = ("bash", "-euc", UNREADABLE, "bash", *PYTHON)
    done = on_machine(
        "intel-laptop-psys", "hz=100", *command, REPORTS=str(tmp_path), EXTRA=str(others)
    )
    assert done.returncode == 0, done.stderr
    before = line((tmp_path / "before").read_text(), "energy tier")
    assert "/sys/class/powercap/intel-rapl:0/energy_uj has mode 0400 and owner 65534" in before
    assert before.endswith("sudo chmod a+r /sys/class/powercap/*/energy_uj")
    after = line((tmp_path / "after").read_text(), "energy tier")
    assert after.startswith("ok ") and " measured. " in after


def test_a_study_with_layers_on_a_gpu_that_no_meter_sees_is_blocked_whatever_else_is_counted(
    tmp_path,
):
    config = laid(
        tmp_path,
        models=["parrot-1m"],
        runtimes=list(load_study().study.runtimes),
        settings={"gpu_layers": 99},
    )
    done = on_machine("intel-desktop", "hz=100", *PYTHON, config)
    if nvml.Meter().cards:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 1, done.stdout + done.stderr
    assert line(done.stdout, "energy tier").startswith("ok ")
    assert line(done.stdout, "GPU").startswith("blocks ")


def test_clocks_that_vary_are_noted_with_the_command_that_holds_them():
    seen = machine_state.observe()
    state = replace(seen, governors=["powersave"], turbo_off="0", boost=None, power_plugged=False)
    governor, turbo, supply = machine_findings.clocks(state)
    cpu = "/sys/devices/system/cpu"
    assert governor.text.endswith(
        f"echo performance | sudo tee {cpu}/cpu*/cpufreq/scaling_governor"
    )
    assert turbo.text.endswith(f"echo 1 | sudo tee {cpu}/intel_pstate/no_turbo")
    assert "battery" in supply.text
    assert {governor.mark, turbo.mark, supply.mark} == {"note"}
    state = replace(seen, governors=["performance"], turbo_off=None, boost="1", power_plugged=True)
    governor, turbo = machine_findings.clocks(state)
    assert governor.mark == "ok"
    assert turbo.text.endswith(f"echo 0 | sudo tee {cpu}/cpufreq/boost")
    state = replace(state, boost="0")
    assert [each.mark for each in machine_findings.clocks(state)] == ["ok", "ok"]


def test_cores_that_the_system_does_not_show_are_said_to_be_so(monkeypatch):
    seen = machine_state.Cores(physical=None, logical=8, allowed=8, are_physical=False, quota=0.5)
    monkeypatch.setattr(machine_state, "cores", lambda: seen)
    found = list(machine_findings.processor(load_study().study.settings))
    assert not any("None" in each.text for each in found)
    cores = next(each for each in found if each.what == "processor")
    assert (cores.mark, "8 logical cores" in cores.text) == ("note", True)
    threads = next(each for each in found if each.what == "threads")
    assert "of 1 usable cores (logical ones" in threads.text and "leave 0.5" in threads.text


def test_cores_of_two_kinds_are_noted_with_the_command_that_keeps_to_one(monkeypatch):
    monkeypatch.setattr(machine_findings, "kinds_of_cores", lambda: (12, 4))
    found = list(machine_findings.processor(load_study().study.settings))
    kinds = next(each for each in found if each.what == "kinds of cores")
    assert kinds.mark == "note" and kinds.text.startswith("12 threads on performance cores, 4 on")
    assert "taskset" in kinds.text


def test_doctor_and_a_run_judge_the_same_number_of_what_others_use(monkeypatch):
    """`limits.cpu_busy` limits one share, whoever looks at it."""
    seen = ForeignUse(share=0.3, steal_share=0, top=[])
    monkeypatch.setattr(machine_state, "watch_others", lambda seconds: seen)
    limits = Limits(cpu_busy=0.2, wait_s=0)
    assert machine_findings.background(limits).text.startswith("30")
    windows = load_study().study.windows
    assert protocol.preflight(windows, limits, lambda text: None).busy_share == 0.3


def test_a_profile_of_the_user_blocks_by_its_variable_s_name():
    done = run(SNAKEMAKE_PROFILE="mine")
    assert done.returncode == 1
    assert line(done.stdout, "surroundings").startswith("blocks surroundings")
    assert "unset SNAKEMAKE_PROFILE" in line(done.stdout, "surroundings")


def test_who_reads_the_first_line_alone_gets_it_and_nothing_else():
    piped = " ".join(PYTHON) + " | head -n 1; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", piped], cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_a_virtual_machine_is_noted():
    found = Virtualisation(hypervisor_flag=True, container_file=True, vm="kvm", container="docker")
    assert "a container in a virtual machine (kvm)" in machine_findings.virtual(found).text
    found = Virtualisation(hypervisor_flag=False, container_file=False, vm=None, container=None)
    assert machine_findings.virtual(found) == Finding("ok", "virtualisation", "none seen")


def test_load_by_others_is_noted_with_what_becomes_of_runs(monkeypatch):
    seen = ForeignUse(share=0.2, steal_share=0, top=[ForeignProcess(name="cc1", cpu_s=0.01)])
    monkeypatch.setattr(machine_state, "foreign_use", lambda *arguments: seen)
    found = machine_findings.background(Limits(cpu_busy=0.05, flag_only=False), seconds=0.01)
    assert found.mark == "note" and "cc1" in found.text and "Runs would be invalid" in found.text
    flagged = machine_findings.background(Limits(cpu_busy=0.05, flag_only=True), 0.01)
    assert "flagged" in flagged.text
    assert machine_findings.background(Limits(cpu_busy=0.2), 0.01).mark == "ok"


def test_a_disk_that_is_too_small_blocks_and_says_by_how_much(monkeypatch):
    usage = namedtuple("usage", "total used free")
    states = [ModelState("x", False, 4_000_000_000, 4_000_000_000)]
    study = load_study()
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 5_000_000_000))
    (found,) = machine_findings.disks(study, states)
    assert (found.what, found.mark) == ("disk", "blocks")
    assert "4.00 GB of models, 4.00 GB for a copy in use" in found.text
    assert "Free " in found.text
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 10**12))
    assert [each.mark for each in machine_findings.disks(study, states)] == ["ok"]


def test_results_on_another_disk_than_the_clone_are_looked_at_beside_it(monkeypatch, tmp_path):
    loaded = in_folder(tmp_path)
    known = {tmp_path: Disk(tmp_path, 1, 10**12), loaded.results: Disk(Path("/mnt"), 2, 10**6)}
    monkeypatch.setattr(machine_findings, "disk_of", known.__getitem__)
    clone, results = machine_findings.disks(loaded, [])
    assert (clone.what, clone.mark) == ("disk", "ok")
    assert f"1000.00 GB free on the disk of {tmp_path}" in clone.text
    assert (results.what, results.mark) == ("disk of results", "blocks")
    assert "1.00 MB free on the disk of /mnt, 500.00 MB needed" in results.text
    assert results.text.endswith("Free 499.00 MB")


def test_a_model_larger_than_the_memory_blocks():
    total = psutil.virtual_memory().total
    assert machine_findings.memory([ModelState("x", True, total, 0)]).mark == "blocks"
    assert machine_findings.memory([ModelState("x", True, 1000, 0)]).mark == "ok"


def test_memory_or_a_size_that_is_not_known_is_not_taken_for_enough(monkeypatch):
    small, unsized = ModelState("x", True, 1000, 0), ModelState("y", False, None, 0)
    for states in ([unsized], [small, unsized]):
        found = machine_findings.memory(states)
        assert found.mark == "note" and found.text.endswith("the size of y is not known")

    def not_shown():
        raise KeyError(b"MemTotal:")  # as psutil raises where /proc/meminfo lacks it

    monkeypatch.setattr(psutil, "virtual_memory", not_shown)
    found = machine_findings.memory([small])
    assert found.mark == "note"
    assert found.text == "not shown by this system, the largest model's file has 1.00 kB"


def test_a_model_of_unknown_hash_blocks_unless_it_is_to_be_trusted(tmp_path):
    entry = {"url": "https://example.org/x.gguf", "license": "MIT", "prompt_style": "base"}
    catalogue = catalogue_from({"models": {"x": entry}})
    study = replace(load_study().study, trust_on_first_use=False)
    found, _ = study_findings.model(LoadedStudy(study, catalogue, tmp_path), "x")
    assert found.mark == "blocks" and "trust_on_first_use" in found.text
    study = replace(study, trust_on_first_use=True)
    found, _ = study_findings.model(LoadedStudy(study, catalogue, tmp_path), "x")
    assert (found.mark, found.text) == ("note", "to be fetched, size not known")


def runtime_with_releases() -> str:
    options = load_study().study.runtime_options
    return next(name for name, each in options.items() if "official" in each)


def making_of(loaded: LoadedStudy, runtime: str) -> Making:
    """Return a runtime as the study has it, with one set of options."""
    (made,) = (each for each in makings(loaded.study) if each.runtime == runtime)
    return made


def with_options(folder: Path, name: str, **options: object) -> LoadedStudy:
    """Return the demonstration study in a folder, with other options of one runtime."""
    loaded = in_folder(folder)
    study = replace(loaded.study, runtime_options={name: {"version": "1", **options}})
    return LoadedStudy(study, loaded.catalogue, folder)


def provision(folder: Path, **options: object) -> Finding:
    name = runtime_with_releases()
    loaded = with_options(folder, name, **options)
    return study_findings.provision(loaded, making_of(loaded, name))


def test_a_runtime_to_be_built_needs_a_compiler(tmp_path, monkeypatch):
    assert provision(tmp_path, **{"from": "build"}).mark == "note"
    monkeypatch.setenv("CC", "/no/such/compiler")
    found = provision(tmp_path, **{"from": "build"})
    assert found.mark == "blocks" and "/no/such/compiler" in found.text


def test_a_binary_of_one_s_own_must_be_there(tmp_path):
    assert provision(tmp_path, **{"from": "path"}, binary="").mark == "blocks"
    assert provision(tmp_path, **{"from": "path"}, binary="/no/such/program").mark == "blocks"
    assert provision(tmp_path, **{"from": "path"}, binary=sys.executable).mark == "note"


def test_a_release_is_fetched_or_blocks_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    release = {
        "url": "https://example.org/r.tar.zst",
        "sha256": "0" * 64,
        "bytes": 1_200_000_000,
    }
    options = {"from": "official", "official": {"linux-amd64": release}}
    monkeypatch.setattr("shutil.which", lambda name: "/bin/zstd")
    assert provision(tmp_path, **options).text == "1.20 GB will be fetched"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "apt-get install zstd" in provision(tmp_path, **options).text
    assert provision(tmp_path, **{"from": "official", "official": {}}).mark == "blocks"


def test_a_runtime_built_for_another_processor_or_gone_blocks(tmp_path):
    shown = f"resources/runtimes/{runtime_with_releases()}/1.json"
    facts = tmp_path / shown
    write_json(facts, {"version": "1", "cpu_model": "another", "cpu_features": "none"})
    found = provision(tmp_path)
    assert found.mark == "blocks" and "was built for" in found.text and "another" in found.text
    assert found.text.endswith(f"Make it again: rm {shown}")
    write_json(facts, {"version": "1", "binary": "gone"})
    found = provision(tmp_path)
    assert (found.mark, found.text) == ("blocks", f"gone is gone. Make it again: rm {shown}")
    write_json(facts, {"version": "1"})
    assert provision(tmp_path) == Finding(
        "ok", f"runtime {runtime_with_releases()}", f"provided ({shown})"
    )


def test_what_was_provided_and_cannot_be_read_blocks(tmp_path):
    facts = tmp_path / f"resources/runtimes/{runtime_with_releases()}/1.json"
    facts.parent.mkdir(parents=True)
    facts.write_text("{")
    found = provision(tmp_path)
    assert found.mark == "blocks" and str(facts) in found.text


def test_a_runtime_s_own_environment_is_named_with_the_command_that_makes_it(tmp_path):
    loaded = in_folder(tmp_path)
    name = loaded.study.runtimes[-1]

    def named() -> list[Finding]:
        found = study_findings.runtime(loaded, making_of(loaded, name))
        return [each for each in found if ".venvs" in each.text]

    assert not named()
    (tmp_path / "requirements").mkdir()
    (tmp_path / f"requirements/runtime-{name}.txt").touch()
    (found,) = named()
    assert found.mark == "note" and found.text.endswith(f"make runtime NAME={name}")
    (tmp_path / f".venvs/{name}/bin").mkdir(parents=True)
    (tmp_path / f".venvs/{name}/bin/python").touch()
    (found,) = named()
    assert found.mark == "ok"


def test_an_option_that_a_runtime_does_not_know_blocks(tmp_path):
    name = load_study().study.runtimes[-1]
    loaded = with_options(tmp_path, name, no_such=True)
    (found,) = study_findings.runtime(loaded, making_of(loaded, name))
    assert found.mark == "blocks" and "no_such" in found.text


ARMED = {
    "models": ["parrot-1m"],
    "require_tier": "estimated",
    "arms": {
        "plain": {"runtime": "ollama"},
        "own-choice": {"runtime": "ollama", "settings": "as_installed"},
        "two": {"runtime": "ollama", "settings": {"threads": 2}},
        "other": {"runtime": "ollama", "options": {"from": "path", "binary": "/no/such/program"}},
    },
}


def test_a_runtime_is_looked_at_once_for_all_arms_with_its_options(tmp_path):
    loaded = load_study(laid(tmp_path, **ARMED))
    assert [(made.runtime, made.arms) for made in makings(loaded.study)] == [
        ("ollama", ("plain", "own-choice", "two")),
        ("ollama", ("other",)),
    ]
    done = run(laid(tmp_path, **ARMED))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "; arms: plain, own-choice, two" in line(done.stdout, "runtime ollama (plain)")
    other = [each for each in done.stdout.splitlines() if "runtime ollama (other)" in each[7:]]
    assert any("/no/such/program" in each and each.startswith("blocks") for each in other)
    assert done.stdout.splitlines()[-1].endswith("cannot start here: runtime ollama (other).")


def test_threads_that_differ_by_arm_are_named_and_own_choices_are_not_counted(tmp_path):
    done = run(laid(tmp_path, **ARMED, settings={"threads": 1}))
    assert "1 and 2 by arm, of " in line(done.stdout, "threads")
    own = {"own": {"runtime": "ollama", "settings": "as_installed"}}
    done = run(laid(tmp_path, **ARMED | {"arms": own}))
    found = line(done.stdout, "threads")
    assert found.startswith("note") and "each runtime's own choice, of " in found
    assert found.endswith("is not known")


def test_what_one_arm_cannot_hold_blocks_it_by_name(tmp_path):
    first = next(name for name in names() if "kv_cache" in load(name).CANNOT_HOLD)
    settings = {"flash_attention": True, "kv_cache": "q8_0"}
    arms = {"plain": {"runtime": first}, "q8": {"runtime": first, "settings": settings}}
    done = run(laid(tmp_path, **ARMED | {"arms": arms}))
    assert done.returncode == 1
    found = line(done.stdout, f"runtime {first}")
    assert found.startswith("blocks") and "kv_cache" in found
    del arms["q8"]
    assert not line(
        run(laid(tmp_path, **ARMED | {"arms": arms})).stdout, f"runtime {first}"
    ).startswith("blocks")


def test_a_gpu_that_no_meter_sees_blocks_an_arm_that_may_choose_it(monkeypatch):
    """Where a GPU is there that no meter can read, it computes unseen as soon as it may."""
    monkeypatch.setattr("joules.machine.gpus.devices", lambda: ["/dev/kfd"])
    monkeypatch.setattr(nvml.Meter, "has_meter", lambda self: False)
    found = [each.mark for each in machine_findings.gpu(0, as_installed=True)]
    assert "blocks" in found
    assert "blocks" not in [each.mark for each in machine_findings.gpu(0)]
