"""Complete synthetic studies for tests: record, grade and agreement files with known truth.

Nothing here is a measurement. The files are of the types of all that is stored, so that everything
right of records and grades can be tested against effects that are known because they were put in.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from synthetic_arms import facts_of_arm, in_force, runtime_of, settings_of
from synthetic_parts import (
    BUSY_POWER_W,
    IDLE_POWER_W,
    answer,
    energy,
    environment,
    instrument,
    sha256,
    trace,
    window,
)

from joules.core import paths, stored
from joules.core.grade_file import SCHEMA as GRADE_SCHEMA
from joules.core.grade_file import Grade, GradedTask, SandboxFacts, SandboxLimits
from joules.core.plan import Run, plan_of
from joules.core.record import SCHEMA as RECORD_SCHEMA
from joules.core.record import (
    BrokenRule,
    CheckedRule,
    Gaps,
    ModelFacts,
    Position,
    Record,
    Settle,
    Task,
    Validity,
    Window,
    WindowName,
)
from joules.core.study import Study, study_from
from joules.core.values import Tier
from joules.core.warm_up_files import Agreement, AgreementPair, TextDifference

PREFILL_J_PER_TOKEN = 0.02
DECODE_J_PER_TOKEN = 0.10
OVERHEAD_J_PER_TASK = 0.05
GAP_SHARE = 0.01
TASK_NOISE_CV = 0.02
PROBLEMS = 164
BROKEN = BrokenRule(code="foreign_cpu", seen=0.05, limit=0.02, invalidates=True)
ENVIRONMENT = environment()


@dataclasses.dataclass(frozen=True)
class WrittenStudy:
    """Paths of the files of one synthetic study, and the configuration that belongs to them."""

    folder: Path
    config: Study
    records: list[Path]
    grades: list[Path]
    agreements: list[Path]


@functools.cache
def _seed_of(*words: object) -> tuple[int, ...]:
    return tuple(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8])


def make_record(
    run: Run,
    position: int,
    runs: int,
    study: Study,
    *,
    seed: int = 1,
    ratio: float = 1.0,
    noise_cv: float = 0.01,
    drift: float = 0.0,
    tier: Tier = "measured",
    session: str = "session-1",
    invalid: bool = False,
    limit_share: float = 0.1,
    task_noise_cv: float = TASK_NOISE_CV,
    engines: Mapping[str, Mapping[str, object]] | None = None,
) -> Record:
    """Return one record. `ratio` multiplies the run's energy, `drift` grows over the study.

    Log-normal noise with coefficient of variation `noise_cv` is common to all tasks of the run.
    Energy of a task = run factor * (prefill J/token * prompt tokens + decode J/token * generated
    tokens + overhead), plus noise of its own (`task_noise_cv`); all parts take the same power.
    """
    rng = np.random.default_rng([seed, *_seed_of(*run)])
    tokens = np.random.default_rng([seed, *_seed_of(run.model)])
    settings, measured = settings_of(study, run), tier == "measured"
    limit = settings.max_tokens
    count = PROBLEMS if run.kind == "quality" or study.problems == "all" else study.problems
    factor = ratio * np.exp(drift * (position - 1) / max(runs - 1, 1) + rng.normal(0, noise_cv))
    prompt_tokens = tokens.integers(40, 300, size=PROBLEMS)
    wanted = tokens.integers(10, limit, size=PROBLEMS)
    capped = tokens.random(PROBLEMS) < limit_share
    generated = np.where(capped, limit, wanted)
    if run.kind == "fixed":
        generated = np.full(PROBLEMS, limit)
    tasks: list[Task] = []
    passed_s = 0.0
    for index in map(int, rng.permutation(count)):
        parts_j = np.array(
            [
                OVERHEAD_J_PER_TASK,
                PREFILL_J_PER_TOKEN * prompt_tokens[index],
                DECODE_J_PER_TOKEN * generated[index],
            ]
        )
        parts_j *= factor * np.exp(rng.normal(0, task_noise_cv))
        task_j = float(parts_j.sum())
        duration_s = task_j / BUSY_POWER_W
        overhead_s, prefill_s, decode_s = map(float, parts_j / BUSY_POWER_W)
        prefill_j = float(factor * PREFILL_J_PER_TOKEN * prompt_tokens[index])
        text, ids = answer(run, index)
        tasks.append(
            Task(
                task_id=f"HumanEval/{index}",
                prompt_token_ids_sha256=sha256(run.model, index),
                prompt_tokens=int(prompt_tokens[index]),
                generated_tokens=int(generated[index]),
                retokenised_tokens=int(generated[index]) - 1,
                start_s=passed_s,
                overhead_s=overhead_s,
                prefill_s=prefill_s,
                decode_s=decode_s,
                duration_s=duration_s,
                energy_j=energy(task_j, measured),
                prefill_energy_j=prefill_j if measured else None,
                finish_reason="limit" if generated[index] == limit else "eos",
                completion=text,
                retokenised_ids=ids if run.repetition == 1 else None,
            )
        )
        passed_s += duration_s / (1 - GAP_SHARE)
    tasks_j = sum(task.energy_j.headline_j() for task in tasks)
    tasks_s = sum(task.duration_s for task in tasks)
    gaps_j = tasks_j / (1 - GAP_SHARE) - tasks_j
    duration_s = tasks_s / (1 - GAP_SHARE)
    seen = 0.05 if invalid else 0.001
    return Record(
        schema=RECORD_SCHEMA,
        study=study.study,
        campaign=study.campaign,
        model=ModelFacts(run.model, sha256(run.model), 1_000_000, "Q8_0"),
        runtime=runtime_of(run, study, engines or {}),
        arm=facts_of_arm(run, study),
        kind=run.kind,
        repetition=run.repetition,
        position=Position(planned=position, actual=position),
        session=session,
        attempts=1,
        protocol="base",
        settings=settings,
        settings_in_force=in_force(run, study, settings),
        instrument=instrument(tier),
        environment=ENVIRONMENT,
        page_cache_warmed=True,
        windows=_windows(run, 1000.0 + 600.0 * position, duration_s, tasks_j + gaps_j, measured),
        tasks=tasks,
        gaps=Gaps(
            duration_s=duration_s - tasks_s,
            energy_j=gaps_j,
            share=GAP_SHARE,
            conservation=0.0,
            by_component_j=energy(gaps_j, measured),
        ),
        trace=trace(duration_s, measured),
        settle=Settle(settled=True, prompts=20, cv=0.01, limit=0.02),
        energy_j=tasks_j,
        generated_tokens=sum(task.generated_tokens for task in tasks),
        prompt_tokens=sum(task.prompt_tokens for task in tasks),
        validity=Validity(
            valid=not invalid,
            codes=[BROKEN] if invalid else [],
            checks=[
                CheckedRule(code="foreign_cpu", seen=seen, limit=0.02),
                CheckedRule(code="throttled", seen=None, limit=None),
            ],
        ),
    )


def _windows(
    run: Run, start_s: float, duration_s: float, energy_j: float, dram: bool
) -> list[Window]:
    """Return the windows of a run, one after the other; the tasks last and need as given.

    One of the runtimes imports its models.
    """
    lasting: tuple[tuple[WindowName, float, float], ...] = (
        ("idle_cold", 30.0, IDLE_POWER_W),
        *((("import", 1.0, 7.0),) if run.arm == "ollama" else ()),
        ("load", 2.0, 8.0),
        ("idle_resident", 30.0, IDLE_POWER_W + 0.5),
        ("settle", 60.0, BUSY_POWER_W),
        ("tasks", duration_s, BUSY_POWER_W),
        ("idle_after", 30.0, IDLE_POWER_W),
    )
    windows = []
    for name, seconds, power_w in lasting:
        joule = energy_j if name == "tasks" else power_w * seconds
        windows.append(window(name, start_s, seconds, joule, dram))
        start_s += seconds
    return windows


def make_grade(record: Record, pass_share: float = 0.6) -> Grade:
    """Return the grade of a record. About `pass_share` of the problems pass.

    Two in 100 problems (by a hash) turn over between runtimes, so that flips exist.
    """
    tasks = []
    for task in record.tasks:
        chance = int(sha256(record.model.name, task.task_id)[:8], 16) / 2**32
        turned = int(sha256(record.arm_name, task.task_id)[:8], 16) / 2**32 < 0.02
        passed = (chance < pass_share) != turned
        tasks.append(
            GradedTask(
                task_id=task.task_id,
                verdict="passed" if passed else "failed",
                reason="" if passed else "AssertionError",
                rule="body",
                truncated=task.finish_reason == "limit",
            )
        )
    passed_tasks = sum(task.verdict == "passed" for task in tasks)
    return Grade(
        schema=GRADE_SCHEMA,
        study=record.study,
        campaign=record.campaign,
        model=record.model.name,
        runtime=record.arm_name,
        kind=record.kind,
        repetition=record.repetition,
        sandbox=SandboxFacts(
            mechanism="synthetic",
            kernel="6.8.0",
            machine="x86_64",
            landlock_abi=0,
            bubblewrap="not used",
            python="3.11.7",
            limits=SandboxLimits(cpu_s=1.0, wall_s=1.0, memory_bytes=2**30),
            probes={},
        ),
        tasks=tasks,
        passed=passed_tasks,
        total=len(tasks),
        pass_at_1=passed_tasks / len(tasks),
        dataset_sha256=sha256("HumanEval"),
    )


def make_agreement(study: Study, model: str, prompts: int) -> Agreement:
    """Return an agreement that passed."""
    pairs = [
        AgreementPair(
            runtime_a=a,
            runtime_b=b,
            prompts=prompts,
            same_text=prompts - 1,
            same_text_share=(prompts - 1) / prompts,
            first_difference=[TextDifference(task_id="HumanEval/0", character=7)],
            same_counts=prompts,
        )
        for a, b in itertools.combinations(study.compared, 2)
    ]
    return Agreement(
        model=model,
        protocol="base",
        runtimes=list(study.compared),
        settings=settings_of(study, Run(model, next(iter(study.compared)), "task", 1)),
        passed=True,
        problems=[],
        pairs=pairs,
    )


def make_config(
    models: Sequence[str], runtimes: Sequence[str], kinds: Sequence[str], **changes: object
) -> Study:
    """Return the configuration of a study that was never measured."""
    config = {
        "study": "synthetic",
        "demonstration": True,
        "models": list(models),
        "runtimes": list(runtimes),
        "kinds": list(kinds),
        "blocks": 5,
        "seed": 20261125,
        "problems": 10,
        "settings": {"context_length": 2048, "threads": 1, "max_tokens": 256},
        "carbon": {"country_iso_code": "NLD", "grams_per_kwh": 268, "source": "ember2024"},
    }
    config |= changes
    if config.get("arms"):
        del config["runtimes"]
    return study_from(config, {})


def write_run(folder: Path, run: Run, record: Record) -> tuple[Path, Path]:
    """Write a record and its grade to their places below `folder`; return both paths."""
    record_file = paths.record_path(paths.records_folder(folder), run)
    grade_file = paths.record_path(paths.grades_folder(folder), run)
    stored.write_record(record_file, record)
    stored.write_grade(grade_file, make_grade(record))
    return record_file, grade_file


def write_agreement(folder: Path, study: Study, model: str, prompts: int = 5) -> Path:
    """Write an agreement that passed to its place below `folder`; return its path."""
    file = paths.agreement_file(folder, model)
    stored.write_agreement(file, make_agreement(study, model, prompts))
    return file


def write_study(
    folder: Path,
    *,
    models: Sequence[str] = ("parrot-1m", "parrot-3m"),
    runtimes: Sequence[str] = ("ollama", "llama_cpp"),
    kinds: Sequence[str] = ("task", "control"),
    blocks: int = 5,
    seed: int = 1,
    ratios: Mapping[str, float] | None = None,
    noise_cv: float = 0.01,
    drift: float = 0.0,
    problems: int = 10,
    tier: Tier = "measured",
    invalid: Sequence[Run] = (),
    sessions: Mapping[Run, str] | None = None,
    attempts: Sequence[Run] = (),
    arms: Mapping[str, object] | None = None,
    contrasts: Sequence[Sequence[str]] = (),
    engines: Mapping[str, Mapping[str, object]] | None = None,
) -> WrittenStudy:
    """Write a whole study below `folder` (records, grades, agreement) and return its paths.

    `ratios`: true energy ratio of an arm to 1; `invalid`: runs whose record says so;
    `sessions`: the session of a run where it is not the first one; `attempts`: runs beside whose
    record an invalid attempt lies; `arms`: instead of `runtimes`, as a configuration has them;
    `engines`: facts of an arm's engine.
    """
    asked = {"blocks": blocks, "seed": seed, "problems": problems, "contrasts": contrasts}
    study = make_config(models, runtimes, kinds, **asked, arms=arms or {})
    runs = plan_of(study)
    records, grades = [], []
    for position, run in enumerate(runs, start=1):
        record = make_record(
            run,
            position,
            len(runs),
            study,
            seed=seed,
            ratio=(ratios or {}).get(run.arm, 1.0),
            noise_cv=noise_cv,
            drift=drift,
            tier=tier,
            session=(sessions or {}).get(run, "session-1"),
            invalid=run in set(invalid),
            engines=engines,
        )
        record_file, grade_file = write_run(folder, run, record)
        records.append(record_file)
        grades.append(grade_file)
        if run in set(attempts):
            validity = msgspec.structs.replace(record.validity, valid=False, codes=[BROKEN])
            attempt = msgspec.structs.replace(record, validity=validity)
            stored.write_record(paths.invalid_attempt_path(record_file, 1), attempt)
    agreements = [write_agreement(folder, study, model, min(problems, 5)) for model in models]
    return WrittenStudy(folder, study, records, grades, agreements)
