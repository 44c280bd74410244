# Shared by all rules: the study and its catalogue, checked; the plan of runs; input functions.
# Needs the configuration, config/models.yaml, config/runtime_options.yaml; leaves names, no files.

import functools
import gc
import signal
from pathlib import Path

import msgspec

from snakemake.exceptions import WorkflowError

from joules.core import paths
from joules.core.catalogue import archived_catalogue_of, identity_of, prompting_of
from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.plan import Run, positions, urgency
from joules.core.reading import (
    archived_catalogue,
    read_catalogue,
    read_configuration,
    runs_of,
    study_of,
)
from joules.core.run_parameters import (
    check_names,
    max_tokens_of,
    options_of,
    run_parameters,
    warm_up_parameters,
)
from joules.core.sense import check_sense
from joules.core.study import archived_configuration
from joules.inputs.study_plan import study_plan
from joules.machine import surroundings
from joules.meters.entries import polled_meters

# Everything that must come before a run is more urgent than any run.
BEFORE_RUNS = 1000000
ROOT = Path(workflow.basedir)
PACKAGE = ROOT / "workflow/scripts/joules"


def settle_surroundings():
    """Keep the user's surroundings from libraries, or refuse them by name, before anything else."""
    try:
        surroundings.refuse()
        surroundings.settle(ROOT)
        surroundings.check_temporary_folder()
        surroundings.check_paths(ROOT)
    except UserError as error:
        raise WorkflowError(str(error))


def check_told(study):
    """Raise UserError where an arm asks of its runtime what that cannot be told."""
    from joules.runtimes import check_kv_cache  # a module is read only where it matters

    for arm in study.compared.values():
        if not arm.as_installed:
            check_kv_cache(arm.runtime, arm.asked(study.settings).kv_cache)


def checked_study():
    """Return study, catalogue, runs and plan; a mistake of the user is one line, no traceback."""
    try:
        study = study_of(config, ROOT)
        if study.archived:
            catalogue = archived_catalogue(study, ROOT)
        else:
            catalogue = read_catalogue(ROOT, study.catalogue)
            check_names(study, catalogue, paths.runtime_names(PACKAGE))
            check_sense(study, catalogue, ROOT)
            check_told(study)
            polled_meters(study.meters)  # their options and passwords; no device is asked yet
        return study, catalogue, runs_of(study, ROOT), study_plan(study, catalogue, ROOT)
    except UserError as error:
        raise WorkflowError(str(error))


def require_meter():
    """Refuse to start where two measurements could run side by side."""
    if "meter" not in workflow.global_resources:
        raise WorkflowError(
            "There is no limit on the resource `meter`, so runs would be measured side by side. "
            "It is set in profiles/default/profile.yaml; --resources on the command line replaces "
            "that. Add meter=1 to it."
        )


def end_on_hangup():
    """Take a lost terminal or connection (SIGHUP) as Ctrl-C, unless `nohup` said to go on."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGINT))


def sleep_between_jobs():
    """Let Snakemake look for jobs when one has ended, and not by the clock too.

    It keeps its default limit of 100 jobs a second by timers that never end: one more for each job
    that has ended, each looking at every job that is ready, once a second. After some hundred
    runs that takes a tenth of a core and more beside each measurement. Another limit, as for a
    cluster, stays.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


# A plan of thousands of runs is millions of objects that stay: to look through them all for garbage
# again and again takes a tenth of the time of planning.
gc.set_threshold(100_000, 20, 50)
settle_surroundings()
STUDY, CATALOGUE, RUNS, PLAN = checked_study()
# Scripts read the whole configuration, with every default in its place. The plan lies beside it for
# rule measure, whose records must not become stale by it.
config.clear()
config.update(msgspec.to_builtins(STUDY) | {"plan": msgspec.to_builtins(PLAN)})

POSITION = positions(RUNS)
# Where records and grades come from: this study, or an archived campaign.
SOURCE = paths.archived_folder(STUDY.campaign) if STUDY.archived else "<results>"
FIGURES = paths.figures_of(PACKAGE, WALL in STUDY.meters, STUDY.energy == WALL)


def urgency_of_run(wildcards):
    """Order the runs as the schedule says: the greedy scheduler takes the most urgent first."""
    run = Run(wildcards.model, wildcards.arm, wildcards.kind, int(wildcards.repetition))
    return urgency(POSITION, run)


def all_cores(wildcards):
    """Claim every core, so that nothing else of the workflow runs beside a measurement."""
    return workflow.cores


def records_of(model=None):
    """Return the records of all runs, or of one model's."""
    folder = paths.records_folder(SOURCE)
    return [paths.record_path(folder, run) for run in RUNS if model in (None, run.model)]


def grades_of(model=None):
    """Return the grades of all runs, or of one model's."""
    folder = paths.grades_folder(SOURCE)
    return [paths.record_path(folder, run) for run in RUNS if model in (None, run.model)]


def records_of_model(wildcards):
    """Return the records of the rule's model."""
    return records_of(wildcards.model)


def grades_of_model(wildcards):
    """Return the grades of the rule's model."""
    return grades_of(wildcards.model)


def agreement_of_model(wildcards):
    """Return the agreement of the rule's model."""
    return paths.agreement_file(SOURCE, wildcards.model)


def agreements():
    """Return the agreement of every model."""
    return [paths.agreement_file(SOURCE, model) for model in STUDY.models]


def provided(wildcards):
    """Return the facts file of the runtime of the rule's arm."""
    arm = STUDY.compared[wildcards.arm]
    return paths.provided_file(arm.runtime, options_of(STUDY, wildcards.arm))


def provided_options(wildcards):
    """Return the options of the rule's runtime: those of an arm that has it in this variant."""
    for name, arm in STUDY.compared.items():
        options = options_of(STUDY, name)
        named = (arm.runtime, paths.variant_of(options))
        if named == (wildcards.runtime, wildcards.variant):
            return options
    raise WorkflowError(
        f"No arm of this study has {wildcards.runtime} as {wildcards.variant}. Expected one that "
        "the configuration names. Ask for `all`, or correct the arms."
    )


def environment_of_arm(wildcards):
    """Return the conda environment of the runtime of the rule's arm."""
    return f"../../envs/runtime-{STUDY.compared[wildcards.arm].runtime}.yaml"


def identity_of_model(wildcards):
    """Return what decides a model file's bytes; where it comes from is no part of it."""
    return msgspec.to_builtins(identity_of(wildcards.model, CATALOGUE, read_catalogue(ROOT)))


def prompting_of_model(wildcards):
    """Return what decides a model's prompts, from its catalogue entry."""
    return msgspec.to_builtins(prompting_of(CATALOGUE, wildcards.model))


def max_tokens_of_model(wildcards):
    """Return the most tokens of an answer of the rule's model."""
    return max_tokens_of(STUDY, CATALOGUE, wildcards.model)


def warming(wildcards):
    """Return everything that a warm-up depends on."""
    return msgspec.to_builtins(warm_up_parameters(STUDY, wildcards.arm))


def measuring(wildcards):
    """Return everything that a record depends on; a change of any of it makes the record stale."""
    return msgspec.to_builtins(run_parameters(STUDY, CATALOGUE, wildcards.model, wildcards.arm))


def archived_files():
    """Return what an archive holds beside schedule, config and machine facts."""
    prompts = [paths.prompts_file(SOURCE, model) for model in STUDY.models]
    return records_of() + grades_of() + prompts + agreements()


def configuration_to_archive():
    """Return the configuration as it can be read again.

    A campaign that is packed again keeps the configuration that it came with.
    """
    if STUDY.archived:
        return read_configuration(ROOT / SOURCE / paths.CONFIGURATION)
    return archived_configuration(STUDY)


def catalogue_to_archive():
    """Return the entries of the study's models, or what a campaign that is packed again came with."""
    if not STUDY.archived:
        return archived_catalogue_of(CATALOGUE, STUDY.models, read_catalogue(ROOT))
    file = ROOT / SOURCE / paths.CATALOGUE
    return read_configuration(file) if file.exists() else None


def code_of(script, *rooms):
    """Return a rule's script and the rooms that it imports: inputs, so that an edit runs it again."""
    modules = [path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))]
    return [
        f"workflow/scripts/{script}.py",
        *(path.relative_to(ROOT).as_posix() for path in modules),
    ]
