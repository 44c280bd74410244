"""What the doctor finds out about the machine, whatever models and runtimes are studied on it."""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from joules.commands.findings import Finding
from joules.commands.meter_findings import meters
from joules.commands.needs import ModelState, disk_needs, disk_of
from joules.core.conditions import AskedSettings, Limits
from joules.core.errors import UserError
from joules.core.known import each_of
from joules.core.machine_facts import MachineState, Virtualisation
from joules.core.reading import LoadedStudy
from joules.core.study import Study
from joules.core.wording import listed, percent
from joules.grade.sandbox import sandbox
from joules.machine import machine_state
from joules.machine.asking import known
from joules.machine.download import MARGIN_BYTES, for_people
from joules.machine.processor import cpu_model, kinds_of_cores, text_of
from joules.measure import instrument, tiers
from joules.meters import all_meters, nvml
from joules.meters.entries import polled_meters
from joules.meters.reader import OwnReader

LOAD_S = 1.0
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
# Instructions that llama.cpp computes with (its `system_info` line), as /proc/cpuinfo names them.
SIMD = (
    *("ssse3", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "asimd", "asimddp", "i8mm", "sve", "sve2"),
)


def processor(*asked: AskedSettings) -> Iterator[Finding]:
    """Yield processor, instructions, cores and threads.

    `asked` are the settings of each arm but those that are as installed.
    """
    seen = machine_state.cores()
    yield _cores(seen)
    performance, efficiency = kinds_of_cores()
    if performance is not None:
        yield Finding(
            "note",
            "kinds of cores",
            f"{performance} threads on performance cores, {efficiency} on efficiency cores: where "
            "a runtime's threads run decides its speed and energy, and the system moves them. "
            "For steadier runs keep to one kind: taskset -c "
            "$(cat /sys/devices/cpu_core/cpus) make all",
        )
    named = (text_of(Path("/proc/cpuinfo")) or "").split()
    simd = ", ".join(name for name in SIMD if name in named)
    yield Finding("ok" if simd else "note", "SIMD", simd or "not shown by this system")
    usable = seen.usable
    threads = sorted({machine_state.threads_of(settings.threads) for settings in asked})
    said = {0: "each runtime's own choice", 1: "for each runtime"}.get(len(threads), "by arm")
    numbers = f"{listed(list(map(str, threads)))} " if threads else ""
    text = f"{numbers}{said}, of {usable} usable cores"
    if not seen.are_physical:
        text += " (logical ones: this system does not show its physical cores)"
    if seen.quota is not None:
        text += f" (the control groups leave {seen.quota:g})"
    if each_of(threads, lambda each: each < usable):
        yield Finding("ok", "threads", text)
    elif not threads:
        text += ": whether a core is left for the harness and the server is not known"
        yield Finding("note", "threads", text)
    else:
        yield Finding("note", "threads", f"{text}: no core is left for the harness and the server")


def _cores(seen: machine_state.Cores) -> Finding:
    """Return the processor and its cores; what the system does not show is said to be so."""
    if seen.physical is None:
        text = f"{cpu_model()}, {seen.logical or 'unknown'} logical cores"
        return Finding("note", "processor", f"{text}; how many physical ones is not shown")
    text = f"{cpu_model()}, {seen.physical} physical cores, {seen.logical} logical"
    return Finding("ok", "processor", text)


def memory(states: Sequence[ModelState]) -> Finding:
    """Return memory against the largest model's weights; its context comes on top."""
    seen = known(psutil.virtual_memory)
    sizes = [state.file_bytes for state in states if state.file_bytes is not None]
    unsized = [state.name for state in states if state.file_bytes is None]
    parts = ["not shown by this system"]
    if seen is not None:
        parts = [f"{for_people(seen.available)} of {for_people(seen.total)} available"]
    if sizes:
        parts.append(f"the largest model's file has {for_people(max(sizes))}")
    if unsized:
        parts.append(f"the size of {listed(unsized)} is not known")
    text = ", ".join(parts)
    if seen is not None and sizes and max(sizes) >= seen.total:
        return Finding("blocks", "memory", f"{text}. Take a smaller model")
    fits = seen is not None and not unsized and max(sizes, default=0) < seen.available
    return Finding("ok" if fits else "note", "memory", text)


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
    seen = machine_state.watch_others(seconds)
    text = f"{percent(seen.share)} of the machine is busy, limit {percent(limits.cpu_busy)}"
    if seen.share <= limits.cpu_busy:
        return Finding("ok", "background load", text)
    top = ", ".join(f"{each.name} {percent(each.cpu_s / seconds)}" for each in seen.top[:3])
    then = "be flagged" if limits.flag_only else "be invalid"
    return Finding(
        "note", "background load", f"{text} ({top or 'short processes'}). Runs would {then}"
    )


def hidden_settings() -> str:
    """Return that CodeCarbon takes no settings from outside, or raise UserError."""
    instrument.refuse_hidden_settings()
    return "no hidden settings of CodeCarbon"


def energy(study: Study) -> Iterator[Finding]:
    """Yield the energy tier, with its reason and the remedy, and what is odd about the counters."""
    what, wanted = "energy tier", study.require_tier
    logging.disable(logging.WARNING)  # CodeCarbon says the same in many words
    try:
        named = polled_meters(study.meters)
        with (
            tempfile.TemporaryDirectory() as folder,
            OwnReader(all_meters(), named=named) as reader,
        ):
            seen = instrument.Instrument(
                study.carbon.country_iso_code, Path(folder), reader, study.energy
            )
            live = list(meters(study, named))
    except UserError as error:
        yield Finding("blocks", what, str(error))
        return
    finally:
        logging.disable(logging.NOTSET)
    text = f"{seen.tier}. {seen.tier_reason}"
    if tiers.TIERS.index(seen.tier) < tiers.TIERS.index(wanted):
        asked = f"{seen.tier}; the study asks for `{wanted}` (`require_tier`)"
        yield Finding("blocks", what, f"{asked}. {seen.tier_reason}")
    else:
        yield Finding("ok" if seen.tier == "measured" else "note", what, text)
    yield from live
    if seen.components["cpu"].generic_model:
        yield Finding(
            "note",
            "model of power",
            "CodeCarbon does not know this processor and assumes 4 W for each of its threads",
        )
    if reader.without_range():
        yield Finding(
            "note",
            "counters",
            f"{', '.join(reader.without_range())}: `max_energy_range_uj` is 0, so that it is not "
            "known when they start again at 0. A run in which one does is invalid",
        )


def gpu(layers: int, as_installed: bool = False) -> Iterator[Finding]:
    """Yield the NVIDIA GPUs with energy counters, and whether the study would use one.

    `layers` are the most that an arm is asked to compute there; `as_installed`: an arm may choose.
    """
    meter = nvml.Meter()
    found = [channel.source for channel in meter.channels]
    for text in meter.without_handle():
        yield Finding("note", "GPU", f"{text}: its energy cannot be read")
    if found and (layers or as_installed):
        yield Finding("ok", "GPU", f"{', '.join(found)} with an energy counter")
    elif found:
        yield Finding("note", "GPU", f"{', '.join(found)}, not used: `gpu_layers` is 0")
    for asked in (layers, None) if as_installed and not layers else (layers,):
        try:
            tiers.require_gpu_meter(asked)
        except UserError as error:
            yield Finding("blocks", "GPU", str(error))
    hidden = [name for name in VISIBLE if os.environ.get(name) is not None]
    if hidden and meter.cards:
        yield Finding(
            "note",
            "GPU",
            f"{', '.join(hidden)} is set: runtimes see the cards it names, and the energy of all "
            f"{len(meter.cards)} is counted",
        )


def tight() -> str:
    """Return what the sandbox is made of after it was attacked, or raise UserError."""
    facts = sandbox.self_test()
    return f"{facts.mechanism}: {len(facts.probes)} attempts to break out were refused"
