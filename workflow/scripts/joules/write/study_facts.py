"""What the article says of the study itself: machine, models, runtimes, settings, broken rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pandas as pd
from msgspec import UNSET, UnsetType

from joules.analyse.conventions import ALPHA, MARGIN
from joules.core.machine_facts import Virtualisation
from joules.core.paths import run_of
from joules.core.record import Record
from joules.core.stored import read_record
from joules.core.study import Carbon
from joules.core.values import RunKind
from joules.inputs.humaneval import CONTESTED
from joules.write.claims_file import (
    NOT_REGISTERED,
    Check,
    ContestedProblems,
    FlaggedRun,
    InvalidAttempt,
    Machine,
    Mix,
    RegistrationFacts,
    StudiedModel,
    StudyFacts,
    WallFacts,
)
from joules.write.studied_arms import asked_of, settings_held, stated_settings, studied_runtimes

# Which question the energy per token of each kind of run answers.
QUESTIONS: dict[RunKind, str] = {
    "task": "What does a token of a real answer cost, which ends by itself or at the limit?",
    "fixed": "What does a token cost when every runtime generates exactly as many tokens?",
    "control": "How far do two sets of runs of one runtime differ, when nothing differs but time?",
    "quality": "How many of all problems are answered correctly? Its energy enters no comparison.",
}


class AskedStudy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the article takes from the configuration; tables and records say the rest."""

    demonstration: bool
    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    kinds: tuple[RunKind, ...]
    seed: int
    carbon: Carbon


def representative_records(paths: Sequence[str | Path], runs: pd.DataFrame) -> list[Record]:
    """Return the records to take facts from: the first run of each model and runtime.

    They are in the order of measuring. What the others say of model and settings is the same, or
    `tabulate` would have refused them; what they differ in otherwise is in `mixes_of`.
    """
    ordered = runs.sort_values(["position_actual", "model", "kind", "block"], kind="stable")
    task = ordered[ordered["kind"] == "task"]
    first = (task if len(task) else ordered).drop_duplicates(["model", "runtime"])
    known = {tuple(run_of(path)): path for path in paths}
    return [
        read_record(known[row.model, row.runtime, row.kind, row.block])
        for row in first.itertuples()
    ]


def _virtualisation(facts: Virtualisation) -> str:
    """Return in words what the machine runs in."""
    found = [name for name in (facts.vm, facts.container) if name not in (None, "", "none")]
    if not found and facts.hypervisor_flag:
        found.append("virtual machine")
    if facts.container_file and facts.container in (None, "", "none"):
        found.append("container")
    return ", ".join(map(str, found)) or "none"


def machine_facts(record: Record) -> Machine:
    """Return the machine as the article states it."""
    state = record.environment.before
    machine = state.machine
    return Machine(
        architecture=machine.architecture,
        cores=machine.physical_cores,
        cpu=machine.cpu,
        governors=state.governors,
        gpu=", ".join(f"{each.name} (driver {each.driver})" for each in state.gpus) or "none seen",
        kernel=machine.kernel,
        memory_gb=machine.memory_bytes / 1e9,
        os=machine.os,
        threads=machine.logical_cores,
        usable_cores=machine.usable_cores,
        virtualisation=_virtualisation(machine.virtualisation),
    )


def _flagged_runs(runs: pd.DataFrame) -> list[FlaggedRun]:
    """Return the runs that broke a rule, invalid or only flagged."""
    flagged = runs[(runs["validity_codes"].fillna("") != "") | ~runs["valid"]]
    return [
        FlaggedRun(
            model=row.model,
            runtime=row.runtime,
            kind=row.kind,
            block=row.block,
            valid=row.valid,
            codes=row.validity_codes.split(";"),
        )
        for row in flagged.itertuples()
    ]


def wall_facts(record: Record, validity: pd.DataFrame) -> WallFacts | UnsetType:
    """Return the meter of the whole machine as the article states it; absent without one."""
    meter, cpu = record.instrument.wall_meter(), record.instrument.components.get("cpu")
    if meter is None:
        return UNSET
    resolutions = [each.resolution_j for each in meter.channels if each.resolution_j]
    intervals = [each.update_interval_s for each in meter.channels if each.update_interval_s]
    limits = validity.loc[validity["code"] == "gap_time", "limit"]
    return WallFacts(
        module=meter.module,
        label=meter.label,
        description=meter.description,
        model=str(meter.device.get("model") or ""),
        firmware=str(meter.device.get("firmware") or ""),
        emulated=meter.emulated,
        counts=bool(meter.channels) and all(each.counts for each in meter.channels),
        every_s=meter.every_s,
        resolution_j=max(resolutions, default=None),
        update_interval_s=max(intervals, default=None),
        processor_tier=cpu.tier if cpu else None,
        gap_time_limit=float(limits.iloc[0]) if len(limits) else None,
    )


SHOWN_OF_A_HASH = 12


def mixes_of(runs: pd.DataFrame) -> list[Mix]:
    """Return what runs differ in that are compared all the same; the configuration allowed it."""
    groups = [("machine", "The machine", runs)]
    groups += [
        ("runtime_build", f"The build of {label}", own)
        for label, own in runs.groupby("runtime_label", sort=True)
    ]
    groups.append(("instrument_sha256", "The version of the measuring code", runs))
    return [
        Mix(what, [_variant(column, value, rows) for value, rows in own.groupby(column, sort=True)])
        for column, what, own in groups
        if own[column].nunique() > 1
    ]


def _variant(column: str, value: str, rows: pd.DataFrame) -> str:
    shown = value[:SHOWN_OF_A_HASH] if column == "instrument_sha256" else value
    blocks = sorted(set(rows["block"]))
    return f"{shown} (block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))})"


def _studied_model(record: Record) -> StudiedModel:
    return StudiedModel(**msgspec.structs.asdict(record.model), prompt_style=record.protocol)


Row = TypeVar("Row", InvalidAttempt, Check)


def _rows(frame: pd.DataFrame, kind: type[Row]) -> list[Row]:
    """Return the rows of a table; a missing value is None."""
    return [
        msgspec.convert(
            {name: None if pd.isna(value) else value for name, value in row.items()}, kind
        )
        for row in frame.to_dict("records")
    ]


def study_facts(
    runs: pd.DataFrame,
    records: Sequence[Record],
    asked: AskedStudy,
    attempts: pd.DataFrame,
    validity: pd.DataFrame,
    registration: RegistrationFacts = NOT_REGISTERED,
) -> StudyFacts:
    """Return what the article says of the study itself. `records`: see `representative_records`.

    `invalid_runs` are all that broke a rule; each says whether it still counts as valid. `attempts`
    and `validity` are the tables of `joules.analyse.tables.Tables`.
    """
    first = records[0]
    instrument, machine = first.instrument, first.environment.before.machine
    by_model = {record.model.name: _studied_model(record) for record in records}
    by_runtime = studied_runtimes(records)
    control = runs.loc[runs["kind"] == "control", "runtime"]
    task = runs[runs["kind"] == "task"]
    packages = {name: version for name, version in machine.packages.items() if version}
    packages |= {"codecarbon": instrument.codecarbon.version, "python": machine.python}
    return StudyFacts(
        name=str(runs["study"].iloc[0]),
        campaign=", ".join(sorted(set(runs["campaign"]))),
        demonstration=asked.demonstration,
        tier=instrument.tier,
        energy=instrument.headline,
        tier_reason=instrument.tier_reason,
        instrument={name: part.source for name, part in instrument.components.items()},
        instrument_versions=int(runs["instrument_sha256"].nunique()),
        mixes=mixes_of(runs),
        registration=registration,
        wall=wall_facts(first, validity),
        models=[by_model[name] for name in asked.models],
        runtimes=[by_runtime[name] for name in asked.runtimes],
        control_runtime=str(control.iloc[0]) if control.nunique() == 1 else None,
        kinds=list(asked.kinds),
        seed=asked.seed,
        blocks=int(task["block"].nunique()),
        problems=int(task["tasks"].max()) if len(task) else None,
        runs=len(runs),
        valid_runs=int(runs["valid"].sum()),
        invalid_runs=_flagged_runs(runs),
        unsettled_runs=int((~runs["settled"]).sum()),
        questions={kind: QUESTIONS[kind] for kind in QUESTIONS if kind in asked.kinds},
        attempts=_rows(attempts, InvalidAttempt),
        checks=_rows(validity, Check),
        cannot_hold=settings_held(records),
        contested=ContestedProblems(
            problems=list(CONTESTED),
            source="; ".join(f"{name}: {words}" for name, words in CONTESTED.items()),
        ),
        machine=machine_facts(first),
        settings={setting: asked_of(setting, records) for setting in stated_settings(records)},
        max_tokens=asked_of("max_tokens", records),
        software=packages,
        measured_on=min(record.windows[0].start_wall for record in records)[:10],
        confidence=1 - ALPHA,
        alpha=ALPHA,
        margin=MARGIN,
        carbon=asked.carbon,
    )
