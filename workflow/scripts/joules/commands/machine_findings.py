"""What the doctor finds out about the machine, whatever models and runtimes are studied on it."""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from joules.commands.findings import Finding
from joules.commands.needs import ModelState, disk_needs, disk_of
from joules.core.conditions import AskedSettings, Limits
from joules.core.errors import UserError
from joules.core.machine_facts import MachineState, Virtualisation
from joules.core.reading import LoadedStudy
from joules.core.values import Tier
from joules.core.wording import percent
from joules.grade.sandbox import sandbox
from joules.machine import machine_state
from joules.machine.download import MARGIN_BYTES, for_people
from joules.machine.processor import cpu_model
from joules.measure import instrument
from joules.meters import nvml

LOAD_S = 1.0
# Instructions that llama.cpp computes with (its `system_info` line), as /proc/cpuinfo names them.
SIMD = (
    *("ssse3", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "asimd", "asimddp", "i8mm", "sve", "sve2"),
)


def processor(settings: AskedSettings) -> Iterator[Finding]:
    """Yield processor, instructions, cores and threads."""
    cpu = f"{cpu_model()}, {psutil.cpu_count(logical=False)} physical cores"
    yield Finding("ok", "processor", f"{cpu}, {psutil.cpu_count()} logical")
    info = Path("/proc/cpuinfo")
    named = info.read_text().split() if info.exists() else []
    simd = ", ".join(name for name in SIMD if name in named)
    yield Finding("ok" if simd else "note", "SIMD", simd or "not shown by this system")
    usable = machine_state.usable_cores()
    threads = machine_state.threads_of(settings.threads)
    text = f"{threads} for each runtime, of {usable} usable cores"
    if threads < usable:
        yield Finding("ok", "threads", text)
    else:
        yield Finding("note", "threads", f"{text}: no core is left for the harness and the server")


def memory(states: Sequence[ModelState]) -> Finding:
    """Return memory against the largest model's weights; its context comes on top."""
    seen, largest = psutil.virtual_memory(), max((s.file_bytes or 0 for s in states), default=0)
    text = (
        f"{for_people(seen.available)} of {for_people(seen.total)} available, "
        f"the largest model's file has {for_people(largest)}"
    )
    if largest >= seen.total:
        return Finding("blocks", "memory", f"{text}. Take a smaller model")
    return Finding("ok" if largest < seen.available else "note", "memory", text)


def disks(loaded: LoadedStudy, states: Sequence[ModelState]) -> Iterator[Finding]:
    """Yield free disk against what the study will write.

    Records lie in results/, which may be a link to another disk; then that one is looked at, too.
    """
    needs, here = disk_needs(loaded, states), disk_of(loaded.root)
    records = disk_of(loaded.results)
    parts = ", ".join(f"{for_people(count)} {what}" for what, count in needs.items() if count)
    note = (
        "; a model of unknown size counts as the largest"
        if any(state.file_bytes is None for state in states)
        else ""
    )
    if records.number == here.number:
        yield _disk("disk", "", here.free_bytes, sum(needs.values()), f"{parts}{note}")
        return
    where = f" on the disk of {here.folder}"
    yield _disk("disk", where, here.free_bytes, sum(needs.values()), f"{parts}{note}")
    where = f" on the disk of {records.folder}"
    parts = f"{for_people(MARGIN_BYTES)} to stay free; `make forecast` says what records take"
    yield _disk("disk of results", where, records.free_bytes, MARGIN_BYTES, parts)


def _disk(what: str, where: str, free_bytes: int, needed_bytes: int, parts: str) -> Finding:
    text = f"{for_people(free_bytes)} free{where}, {for_people(needed_bytes)} needed: {parts}"
    if free_bytes < needed_bytes:
        return Finding("blocks", what, f"{text}. Free {for_people(needed_bytes - free_bytes)}")
    return Finding("ok", what, text)


def clocks(state: MachineState) -> Iterator[Finding]:
    """Yield governor, turbo and power supply."""
    cpu, governors = machine_state.CPU, state.governors
    if not governors:
        yield Finding("note", "governor", "not shown; a virtual machine cannot set the clock")
    elif governors == ["performance"]:
        yield Finding("ok", "governor", "performance")
    else:
        yield Finding(
            "note",
            "governor",
            f"{', '.join(governors)}: the clock follows the load. For steadier runs: "
            f"echo performance | sudo tee {cpu}/cpu*/cpufreq/scaling_governor",
        )
    if state.turbo_off is None and state.boost is None:
        yield Finding("note", "turbo", "not shown")
    elif state.turbo_off == "1" or state.boost == "0":
        yield Finding("ok", "turbo", "off")
    else:
        switch = ("1", "intel_pstate/no_turbo") if state.turbo_off else ("0", "cpufreq/boost")
        yield Finding(
            "note",
            "turbo",
            "on: the clock follows the temperature. For steadier runs: "
            f"echo {switch[0]} | sudo tee {cpu}/{switch[1]}",
        )
    if state.power_plugged is False:
        yield Finding("note", "power supply", "runs on its battery. Plug it in for the whole study")


def virtual(found: Virtualisation) -> Finding:
    """Return whether this is a virtual machine or a container."""
    unseen = (None, "none", "")
    kinds = []
    if found.hypervisor_flag or found.vm not in unseen:
        name = found.vm if found.vm not in unseen else "of an unknown kind"
        kinds.append(f"a virtual machine ({name})")
    if found.container_file or found.container not in unseen:
        kinds.append("a container")
    if not kinds:
        return Finding("ok", "virtualisation", "none seen")
    return Finding("note", "virtualisation", f"{' in '.join(reversed(kinds))}: others may share it")


def background(limits: Limits, seconds: float = LOAD_S) -> Finding:
    """Return what others use of the machine, watched for some seconds, against limits.cpu_busy."""
    before, began = machine_state.cpu_use(), time.monotonic()
    time.sleep(seconds)
    after, passed = machine_state.cpu_use(), time.monotonic() - began
    cores = psutil.cpu_count() or 1
    seen = machine_state.foreign_use(before, after, machine_state.own_processes(), passed, cores)
    text = f"{percent(seen.share)} of the machine is busy, limit {percent(limits.cpu_busy)}"
    if seen.share <= limits.cpu_busy:
        return Finding("ok", "background load", text)
    top = ", ".join(f"{each.name} {percent(each.cpu_s / passed)}" for each in seen.top[:3])
    then = "be flagged" if limits.flag_only else "be invalid"
    return Finding(
        "note", "background load", f"{text} ({top or 'short processes'}). Runs would {then}"
    )


def hidden_settings() -> str:
    """Return that CodeCarbon takes no settings from outside, or raise UserError."""
    instrument.refuse_hidden_settings()
    return "no hidden settings of CodeCarbon"


def energy(wanted: Tier, country_iso_code: str) -> Finding:
    """Return the energy tier, with its reason and the remedy where it is not the highest."""
    what = "energy tier"
    logging.disable(logging.WARNING)  # CodeCarbon says the same in many words
    try:
        with tempfile.TemporaryDirectory() as folder:
            tracker = instrument.make_tracker("doctor", country_iso_code, Path(folder))
            tier, reason = instrument.tier_of(instrument.components(tracker))
    except UserError as error:
        return Finding("blocks", what, str(error))
    finally:
        logging.disable(logging.NOTSET)
    if instrument.TIERS.index(tier) < instrument.TIERS.index(wanted):
        asked = f"{tier}; the study asks for `{wanted}` (`require_tier`)"
        return Finding("blocks", what, f"{asked}. {reason}")
    text = f"{tier}. {reason}"
    return Finding("ok" if tier == "measured" else "note", what, text)


def gpu(layers: int) -> Iterator[Finding]:
    """Yield the NVIDIA GPUs with energy counters, and whether the study would use one."""
    found = [counter.source for counter in nvml.nvml_counters()]
    if found and layers:
        yield Finding("ok", "GPU", f"{', '.join(found)} with an energy counter")
    elif found:
        yield Finding("note", "GPU", f"{', '.join(found)}, not used: `gpu_layers` is 0")
    elif layers:
        text = f"no NVIDIA GPU with an energy counter is seen, and `gpu_layers` is {layers}"
        yield Finding("note", "GPU", text)


def tight() -> str:
    """Return what the sandbox is made of after it was attacked, or raise UserError."""
    facts = sandbox.self_test()
    return f"{facts.mechanism}: {len(facts.probes)} attempts to break out were refused"
