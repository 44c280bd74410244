"""What this machine can do, and what is in the way of the configured study. Writes nothing.

Every finding has a mark: `ok`, `note` (worth knowing; the study can start), `blocks`.
"""

import argparse
import dataclasses
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from joules import counters, environment, instrument, ollama_build, runtimes, sandbox
from joules.campaign import check_require, settings_of
from joules.download import for_people
from joules.errors import UserError
from joules.files import read_json
from joules.models import lookup
from joules.study_config import (
    ModelState,
    Study,
    disk_needs,
    load_study,
    model_state,
    release_of,
)
from joules.wording import percent

LOAD_S = 1.0
BAD_CONFIG = 2  # exit status
# Instructions that llama.cpp computes with (its `system_info` line), as /proc/cpuinfo names them.
SIMD = (
    *("ssse3", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "asimd", "asimddp", "i8mm", "sve", "sve2"),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report: `ok`, `note` or `blocks`, what it is about, and what was found."""

    mark: str
    what: str
    text: str


def attempt(what: str, check: Callable[[], str]) -> Finding:
    """Return `ok` with what a check says, or `blocks` with the error that it raises."""
    try:
        return Finding("ok", what, check())
    except UserError as error:
        return Finding("blocks", what, str(error))


def processor(study: Study) -> Iterator[Finding]:
    """Yield processor, instructions, cores and threads."""
    cpu = f"{environment.cpu_model()}, {psutil.cpu_count(logical=False)} physical cores"
    yield Finding("ok", "processor", f"{cpu}, {psutil.cpu_count()} logical")
    info = Path("/proc/cpuinfo")
    named = info.read_text().split() if info.exists() else []
    simd = ", ".join(name for name in SIMD if name in named)
    yield Finding("ok" if simd else "note", "SIMD", simd or "not shown by this system")
    usable = environment.usable_cores()
    threads = environment.threads_of(study.config["settings"]["threads"])
    text = f"{threads} for each runtime, of {usable} usable cores"
    if threads < usable:
        yield Finding("ok", "threads", text)
    else:
        yield Finding("note", "threads", f"{text}: no core is left for the harness and the server")


def clocks(state: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield governor, turbo and power supply, from `environment.state()`."""
    cpu, governors = environment.CPU, state["governors"]
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
    if state["turbo_off"] is None and state["boost"] is None:
        yield Finding("note", "turbo", "not shown")
    elif state["turbo_off"] == "1" or state["boost"] == "0":
        yield Finding("ok", "turbo", "off")
    else:
        switch = ("1", "intel_pstate/no_turbo") if state["turbo_off"] else ("0", "cpufreq/boost")
        yield Finding(
            "note",
            "turbo",
            "on: the clock follows the temperature. For steadier runs: "
            f"echo {switch[0]} | sudo tee {cpu}/{switch[1]}",
        )
    if state["power_plugged"] is False:
        yield Finding("note", "power supply", "runs on its battery. Plug it in for the whole study")


def virtual(found: Mapping[str, Any]) -> Finding:
    """Return whether this is a virtual machine or a container, from `virtualisation()`."""
    kinds = []
    if found["hypervisor_flag"] or found["vm"] not in (None, "none", ""):
        name = found["vm"] if found["vm"] not in (None, "none", "") else "of an unknown kind"
        kinds.append(f"a virtual machine ({name})")
    if found["container_file"] or found["container"] not in (None, "none", ""):
        kinds.append("a container")
    if not kinds:
        return Finding("ok", "virtualisation", "none seen")
    return Finding("note", "virtualisation", f"{' in '.join(reversed(kinds))}: others may share it")


def background(limits: Mapping[str, Any], seconds: float = LOAD_S) -> Finding:
    """Return what others use of the machine, watched for some seconds, against limits.cpu_busy."""
    before, began = environment.cpu_use(), time.monotonic()
    time.sleep(seconds)
    after, passed = environment.cpu_use(), time.monotonic() - began
    cores = psutil.cpu_count() or 1
    seen = environment.foreign_use(before, after, environment.own_processes(), passed, cores)
    text = f"{percent(seen['share'])} of the machine is busy, limit {percent(limits['cpu_busy'])}"
    if seen["share"] <= limits["cpu_busy"]:
        return Finding("ok", "background load", text)
    top = ", ".join(f"{each['name']} {percent(each['cpu_s'] / passed)}" for each in seen["top"][:3])
    then = "be flagged" if limits["flag_only"] else "be invalid"
    return Finding(
        "note", "background load", f"{text} ({top or 'short processes'}). Runs would {then}"
    )


def energy(wanted: str, country: str) -> Finding:
    """Return the energy tier, with its reason and the remedy where it is not the highest."""
    what = "energy tier"
    logging.disable(logging.WARNING)  # CodeCarbon says the same in many words
    try:
        with tempfile.TemporaryDirectory() as folder:
            tracker = instrument.make_tracker("doctor", country, Path(folder))
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
    found = [counter.source for counter in counters.nvml_counters()]
    if found and layers:
        yield Finding("ok", "GPU", f"{', '.join(found)} with an energy counter")
    elif found:
        yield Finding("note", "GPU", f"{', '.join(found)}, not used: `gpu_layers` is 0")
    elif layers:
        text = f"no NVIDIA GPU with an energy counter is seen, and `gpu_layers` is {layers}"
        yield Finding("note", "GPU", text)


def hidden_settings() -> str:
    """Return that CodeCarbon takes no settings from outside, or raise UserError."""
    instrument.refuse_hidden_settings()
    return "no hidden settings of CodeCarbon"


def runtime(study: Study, name: str) -> Iterator[Finding]:
    """Yield whether a runtime's module loads, holds what is required, and what is to be made."""
    what = f"runtime {name}"
    options = study.config["runtime_options"].get(name)
    if options is None:
        text = "`runtime_options` has no entry for it; expected at least its `version`. Add it."
        yield Finding("blocks", what, text)
        return
    try:
        module = runtimes.load(name)
        with tempfile.TemporaryDirectory() as folder:
            module({**options, "provided": {}}, Path(folder))
        catalogue = study.catalogue["models"]
        endless = all(catalogue.get(m, {}).get("never_ends") for m in study.config["models"])
        for kind in study.config["kinds"]:
            settings = settings_of(study.config["settings"], kind, {"never_ends": endless})
            check_require(name, study.config["require"], settings)
    except (UserError, ImportError) as error:
        yield Finding("blocks", what, str(error))
        return
    cannot = ", ".join(sorted(module.CANNOT_HOLD)) or "nothing"
    text = f"{module.LABEL} {options['version']}; settings that it cannot hold: {cannot}"
    yield Finding("ok", what, text)
    if (study.root / f"requirements/runtime-{name}.txt").exists():
        own = study.root / ".venvs" / name / "bin/python"
        if own.exists():
            yield Finding("ok", what, f"own environment .venvs/{name}")
        else:
            text = f".venvs/{name} is missing. The study makes it; or now: make runtime NAME={name}"
            yield Finding("note", what, text)
    yield provision(study, name)


def provision(study: Study, name: str) -> Finding:
    """Return whether a runtime was provided, or what is still to be built, fetched or checked."""
    what, file = f"runtime {name}", study.provided(name)
    options = study.config["runtime_options"][name]
    shown = file.relative_to(study.root)
    if file.exists():
        facts = read_json(file)
        binary = facts.get("binary")
        if binary and not (study.root / binary).exists():
            return Finding("blocks", what, f"{binary} is gone. Make it again: rm {shown}")
        if not ollama_build.fits_this_cpu(facts):
            text = f"was built for {ollama_build.built_for(facts)}. Build it again: rm {shown}"
            return Finding("blocks", what, text)
        return Finding("ok", what, f"provided ({shown})")
    way, release = options.get("from"), release_of(options)
    if way == "build":
        try:
            ollama_build.require_compiler()
        except UserError as error:
            return Finding("blocks", what, str(error))
        return Finding("note", what, "will be compiled for this processor, which takes minutes")
    if way == "official" and release is None:
        return Finding("blocks", what, "has no release for this platform; set `from` to `build`")
    if release is not None:
        if release["url"].endswith(".zst") and not shutil.which("zstd"):
            text = "its release is packed with zstd, which is missing. sudo apt-get install zstd"
            return Finding("blocks", what, text)
        return Finding("note", what, f"{for_people(release['bytes'])} will be fetched")
    binary = options.get("binary")
    if way == "path" and not (binary and os.access(binary, os.X_OK)):
        return Finding("blocks", what, f"`binary` is {binary!r}; expected a program that is there")
    return Finding("note", what, "will be checked when the study starts")


def model(study: Study, name: str) -> tuple[Finding, ModelState | None]:
    """Return whether a model is known and there, and how much is still to be fetched."""
    what = f"model {name}"
    try:
        entry = lookup(study.catalogue, name)
    except UserError as error:
        return Finding("blocks", what, str(error)), None
    state = model_state(study, name, entry)
    if state.there:
        return Finding("ok", what, f"there, {for_people(state.file_bytes or 0)}"), state
    if "path" in entry:
        if not (study.root / entry["path"]).is_file():
            text = f"there is no file {entry['path']}. Correct `path` in config/models.yaml"
            return Finding("blocks", what, text), state
        return Finding("ok", what, f"on this disk, {entry['path']}"), state
    lock_file = study.root / "resources/models.lock.json"
    pinned = lock_file.exists() and name in read_json(lock_file)
    if not ("sha256" in entry or pinned or study.config["trust_on_first_use"]):
        text = "its sha256 is not known. Add it, or set `trust_on_first_use: true`"
        return Finding("blocks", what, text), state
    size = "size not known" if state.fetch_bytes is None else for_people(state.fetch_bytes)
    return Finding("note", what, f"to be fetched, {size}"), state


def disk(study: Study, states: Sequence[ModelState]) -> Finding:
    """Return free disk against what the study will write."""
    needs, free = disk_needs(study, states), shutil.disk_usage(study.root).free
    needed = sum(needs.values())
    parts = ", ".join(f"{for_people(count)} {what}" for what, count in needs.items() if count)
    text = f"{for_people(free)} free, {for_people(needed)} needed: {parts}"
    if any(state.file_bytes is None for state in states):
        text += "; a model of unknown size counts as the largest"
    if free < needed:
        return Finding("blocks", "disk", f"{text}. Free {for_people(needed - free)}")
    return Finding("ok", "disk", text)


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


def tight() -> str:
    """Return what the sandbox is made of after it was attacked, or raise UserError."""
    facts = sandbox.self_test()
    return f"{facts['mechanism']}: {len(facts['probes'])} attempts to break out were refused"


def examine(study: Study) -> Iterator[Finding]:
    """Yield every finding about this machine and the study, in the order of the report."""
    config = study.config
    yield from processor(study)
    models = [model(study, name) for name in config["models"]]
    states = [state for _, state in models if state is not None]
    yield memory(states)
    yield disk(study, states)
    yield from clocks(environment.state())
    yield virtual(environment.virtualisation())
    yield background(config["limits"])
    own_settings = attempt("CodeCarbon", hidden_settings)
    yield own_settings
    if own_settings.mark == "ok":
        yield energy(config["require_tier"], config["carbon"]["country_iso_code"])
    yield from gpu(config["settings"]["gpu_layers"])
    yield attempt("sandbox", tight)
    for name in config["runtimes"]:
        yield from runtime(study, name)
    yield from (finding for finding, _ in models)


def conclusion(study: Study, findings: Sequence[Finding]) -> str:
    """Return in a sentence whether the study can start."""
    blocking = list(dict.fromkeys(f.what for f in findings if f.mark == "blocks"))
    if blocking:
        return f"The study `{study.config['study']}` cannot start here: {', '.join(blocking)}."
    notes = sum(finding.mark == "note" for finding in findings)
    return f"The study `{study.config['study']}` can start here ({notes} notes)."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0 when the study could start, 1 when not, 2 for a bad config."""
    from rich.console import Console
    from rich.text import Text

    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__)
    parser.add_argument("config", nargs="?", default="", help="laid over config/config.yaml")
    options = parser.parse_args(arguments)
    try:
        study = load_study(options.config or None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_CONFIG
    console = Console(soft_wrap=True, highlight=False)  # a command must stay on one line
    styles = {"ok": "green", "note": "yellow", "blocks": "bold red"}
    named = [f"{part} {n}" for part in ("model", "runtime") for n in study.config[f"{part}s"]]
    width = max(16, *map(len, named))
    findings = []
    for finding in examine(study):
        findings.append(finding)
        mark = Text(f"{finding.mark:<7}", style=styles[finding.mark])
        console.print(mark + Text(f"{finding.what:<{width}}  {finding.text}"))
    console.print(Text(conclusion(study, findings), style="bold"))
    return int(any(finding.mark == "blocks" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
