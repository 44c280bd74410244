"""Everything around one run: session, position, agreement, lock, attempts, record, journal."""

import contextlib
import dataclasses
import os
import select
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from joules import environment, lock, protocol, validity
from joules.counters import CounterMeter, nvml_counters, powercap_counters
from joules.errors import UserError
from joules.files import read_json, sha256_of, write_json
from joules.instrument import (
    Instrument,
    keep_messages,
    refuse_hidden_settings,
    require_tier,
)
from joules.prompts import prompt_of
from joules.runtimes import Model, Runtime, Settings, load
from joules.schedule import Run
from joules.tokenizer import tokenize

Report = Callable[[str], None]


def workflow_process() -> psutil.Process:
    """Return the outermost Snakemake above this process; this process itself when there is none."""
    me = psutil.Process()
    for ancestor in reversed(me.parents()):
        with contextlib.suppress(psutil.Error):
            if any(Path(part).name == "snakemake" for part in ancestor.cmdline()[:3]):
                return ancestor
    return me


def session_id() -> str:
    """Return what this sitting at this machine is called: boot id and start of the workflow."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else str(int(psutil.boot_time()))
    return f"{boot_id}/{workflow_process().create_time():.2f}"


def end_with_workflow() -> None:
    """End this process, its runtime first, when the workflow's process ends, however it ends.

    A kill of the workflow must leave no server and no half measurement behind. SIGTERM becomes an
    ordinary exit, so that context managers stop the runtime.
    """

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    owner = workflow_process()
    if owner.pid == os.getpid() or not hasattr(os, "pidfd_open"):
        return
    handle = os.pidfd_open(owner.pid)

    def watch() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end-with-workflow", daemon=True).start()


def settings_of(
    config: Mapping[str, Any], kind: str, facts: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings of a study for runs of one kind; `auto` threads become a number.

    `facts`, of the model, are those of its prompts file: the most tokens of an answer, and whether
    it `never_ends`: then there is no end of text to ignore, so that no runtime is told to.
    """
    facts = facts or {}
    values = dict(config) | {"max_tokens": facts.get("max_tokens", config["max_tokens"])}
    values["threads"] = environment.threads_of(values["threads"])
    ignore_eos = kind == "fixed" and not facts.get("never_ends", False)
    return Settings(**values, ignore_eos=ignore_eos)


def check_require(name: str, required: Sequence[str], settings: Settings) -> None:
    """Raise UserError when the study requires a setting that the runtime `name` cannot hold."""
    cannot = load(name).CANNOT_HOLD
    wanted = set(required) | ({"ignore_eos"} if settings.ignore_eos else set())
    if wanted & cannot:
        raise UserError(
            f"The runtime {name} cannot hold {', '.join(sorted(wanted & cannot))}, which this "
            "study requires. Take the runtime off `runtimes`, or the setting off `require` "
            "(for kind `fixed`: off `kinds`; or take models that never end an answer and say so by "
            "`never_ends` in config/models.yaml)."
        )


def check_agreement(path: Path, runtime: str, settings: Settings) -> None:
    """Raise UserError unless the runtimes were shown to agree, this one among them."""
    if not path.exists():
        raise UserError(
            f"{path} is missing. It shows that the runtimes read the same prompts, and must exist "
            f"before anything is measured. Make it: snakemake --cores 1 {path}"
        )
    agreement = read_json(path)
    if not agreement["passed"]:
        raise UserError(
            f"{path} says that the runtimes do not agree: {'; '.join(agreement['problems'])}. "
            "Mend that first; measuring would compare different things."
        )
    if runtime not in agreement["runtimes"]:
        raise UserError(
            f"{path} does not name the runtime {runtime}. Make it again: "
            f"snakemake --cores 1 --forcerun agree -- {path}"
        )
    asked = dataclasses.asdict(settings) | {"ignore_eos": False}
    if agreement["settings"] != asked:
        raise UserError(
            f"{path} was made with other settings ({agreement['settings']}; now {asked}). "
            f"Make it again: snakemake --cores 1 --forcerun warm_up -- {path}"
        )


def study_prompts(rows: Sequence[Mapping[str, Any]], kind: str) -> protocol.Prompts:
    """Return what runs of one kind send: `quality` all problems, every other kind the subset."""
    return protocol.Prompts(
        problems=[
            (row["task_id"], row["token_ids_sha256"], prompt_of(row))
            for row in rows
            if row["role"] == "problem" and (row["in_subset"] or kind == "quality")
        ],
        settle=[prompt_of(row) for row in rows if row["role"] == "settle"],
        flush=next(prompt_of(row) for row in rows if row["role"] == "flush"),
    )


def limits_of(config: Mapping[str, Any]) -> validity.Limits:
    """Return the limits of a valid run from `limits` of the config."""
    return validity.Limits(
        **{
            field.name: config["limits"][field.name]
            for field in dataclasses.fields(validity.Limits)
        }
    )


def rules_of(config: Mapping[str, Any]) -> protocol.Rules:
    """Return the protocol's rules from `windows`, `settle` and `limits` of the config."""
    windows, settle = config["windows"], config["settle"]
    return protocol.Rules(
        **{name: windows[name] for name in WINDOW_RULES},
        settle_limit=settle["limit"],
        settle_s=settle["seconds"],
        settle_cap_s=settle["cap_s"],
        limits=limits_of(config),
    )


WINDOW_RULES = ("preflight_s", "idle_s", "rest_s", "rest_margin_c", "rest_cap_s")


def model_facts(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what a prompts file says of its model file."""
    return next(row for row in rows if row["role"] == "model")


def runtime_of(
    name: str, options: Mapping[str, Any], provided: Mapping[str, Any], log_file: Path
) -> Runtime:
    """Return the runtime `name`, not started; it works in a folder beside its rule's log file."""
    work_folder = log_file.with_suffix("")
    work_folder.mkdir(parents=True, exist_ok=True)
    return load(name)({**options, "provided": dict(provided)}, work_folder)


def read_again(model: Path, texts: list[str], report: Report) -> list[list[int]] | None:
    """Return the token ids of each text by the model file's tokenizer.

    None where it is not at hand, said by `report`: it is a check, and must not cost a run that is
    measured already.
    """
    try:
        return tokenize(model, texts, add_bos=False)
    except UserError as error:
        report(f"answers are not counted again: {error}")
        return None


def actual_position(journal: Path, run: Run) -> int:
    """Note the start of a run in the journal and return its place in the order, from 1."""
    journal.mkdir(parents=True, exist_ok=True)
    order = journal / "order.txt"
    with open(order, "a+", encoding="utf-8") as file:
        file.write(f"{run.model} {run.runtime} {run.kind} {run.repetition}\n")
        file.flush()
        file.seek(0)
        return sum(1 for _ in file)


def keep(record: Path, journal: Path) -> Path:
    """Hard-link a finished record into the journal under its content's hash.

    No rule owns the journal: Snakemake deletes an output before it makes it again, and a failed
    repetition must not cost the record that was there.
    """
    journal.mkdir(parents=True, exist_ok=True)
    kept = journal / f"{sha256_of(record)}.json"
    if not kept.exists():
        os.link(record, kept)
    return kept


def finish(record: Mapping[str, Any], record_file: Path, journal: Path) -> None:
    """Write a finished record, into the journal first.

    Snakemake deletes the output of a rule that was killed, though it be whole.
    """
    whole = journal / f"{os.getpid()}.part"
    write_json(whole, record)
    keep(whole, journal)
    record_file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(whole, record_file)


def remaining(records: Path, runs: Sequence[Run], seconds: Sequence[float]) -> str:
    """Return in words when the study will end, from the lengths of the runs measured so far."""
    left = sum(
        not (records / run.model / run.runtime / run.kind / f"{run.repetition}.json").exists()
        for run in runs
    )
    if not seconds:
        return f"{left} runs to go"
    end = time.localtime(time.time() + left * sum(seconds) / len(seconds))
    return f"{left} runs to go, measuring ends about {time.strftime('%H:%M', end)}"


def measure(
    run: Run,
    runs: Sequence[Run],
    config: Mapping[str, Any],
    model: Path,
    rows: Sequence[Mapping[str, Any]],
    provided: Mapping[str, Any],
    record_file: Path,
    log_file: Path,
    report: Report,
) -> None:
    """Measure one run and write its record; repeat an invalid one a bounded number of times.

    `config` holds study, campaign, settings, windows, settle, limits, require, require_tier,
    country_iso_code and options (the runtime's); `provided` are the runtime's facts from its
    `provide`; `rows` are those of the model's prompts file.
    """
    end_with_workflow()
    refuse_hidden_settings()
    results = record_file.parents[4]
    settings = settings_of(config["settings"], run.kind, model_facts(rows))
    check_require(run.runtime, config["require"], settings)
    check_agreement(results / "agreement" / f"{run.model}.json", run.runtime, settings)
    with lock.measuring(report):
        planned = runs.index(run) + 1
        journal = results / "journal"
        position = actual_position(journal, run)
        seconds_file = journal / "seconds.txt"
        done = [float(s) for s in seconds_file.read_text().split()] if seconds_file.exists() else []
        head = f"run {planned} of {len(runs)}: {run.model}, {run.runtime}, {run.kind}"
        report(f"{head}, block {run.repetition}; {remaining(record_file.parents[3], runs, done)}")
        began = time.monotonic()
        # Those of an earlier try at this run stay: what was invalid is never written over.
        former = len(list(record_file.parent.glob(f"{run.repetition}.invalid-*.json")))
        for attempt in range(former + 1, former + config["limits"]["attempts"] + 1):
            record = _attempt(run, config, model, rows, provided, log_file, settings, head, report)
            record["position"] = {"planned": planned, "actual": position}
            record["attempts"] = attempt
            codes = ", ".join(code["code"] for code in record["validity"]["codes"])
            if record["validity"]["valid"]:
                break
            kept = record_file.with_name(f"{run.repetition}.invalid-{attempt}.json")
            write_json(kept, record)
            report(f"{head}: attempt {attempt} is invalid ({codes}), kept as {kept}")
        else:
            raise UserError(
                f"{head}: {config['limits']['attempts']} attempts, none valid ({codes}). "
                "They are kept beside the records. Quiet the machine and run the command again."
            )
        finish(record, record_file, journal)
        with open(seconds_file, "a", encoding="utf-8") as file:
            file.write(f"{time.monotonic() - began:.1f}\n")
        report(
            f"{head}: done in {time.monotonic() - began:.0f} s" + (f" ({codes})" if codes else "")
        )


def _attempt(
    run: Run,
    config: Mapping[str, Any],
    model: Path,
    rows: Sequence[Mapping[str, Any]],
    provided: Mapping[str, Any],
    log_file: Path,
    settings: Settings,
    head: str,
    report: Report,
) -> dict[str, Any]:
    """Measure one run once and return its record, without position and attempts."""
    facts = model_facts(rows)
    runtime = runtime_of(run.runtime, config["options"], provided, log_file)
    keep_messages(log_file.with_suffix("") / "codecarbon.log")
    with (
        tempfile.TemporaryDirectory() as scratch,
        CounterMeter(
            powercap_counters() + nvml_counters(),
            largest_power_w=config["limits"]["largest_power_w"],
        ) as meter,
    ):
        instrument = Instrument(config["country_iso_code"], Path(scratch), meter)
        require_tier(instrument.tier, instrument.tier_reason, config["require_tier"])
        parts = protocol.run_once(
            runtime,
            Model(run.model, model, facts["file_sha256"]),
            settings,
            study_prompts(rows, run.kind),
            rules_of(config),
            instrument,
            lambda line: report(f"{head}: {line}"),
            lambda texts: read_again(model, texts, report),
            exactly=settings.max_tokens if run.kind == "fixed" else None,
            keep_ids=run.repetition == 1,
        )
    parts["environment"]["before"]["machine"] = environment.machine_facts()
    runtime_facts = parts.pop("runtime_facts")
    return {
        "schema": 2,
        "study": config["study"],
        "campaign": config["campaign"],
        "model": {
            "name": run.model,
            "sha256": facts["file_sha256"],
            "parameters": facts["parameters"],
            "quantization": facts["quantization"],
        },
        "runtime": {
            "name": run.runtime,
            "label": runtime.LABEL,
            "facts": runtime_facts,
            "cannot_hold": sorted(runtime.CANNOT_HOLD),
        },
        "kind": run.kind,
        "repetition": run.repetition,
        "session": session_id(),
        "protocol": facts["protocol"],
        "settings": dataclasses.asdict(settings),
        "instrument": instrument.facts(),
        **parts,
    }
