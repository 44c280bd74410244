"""How long a study takes and how much energy it needs, as far as that is known before it runs.

Speeds come from the study's warm-ups where there are any, and power from its earlier records on
this machine; the rest is assumed, by the constants below. All of it is an expectation.
"""

import dataclasses
import logging
import math
import statistics as basic
from collections.abc import Iterable, Mapping, Sequence

from joules.commands.needs import model_states
from joules.core import paths
from joules.core.plan import Run
from joules.core.reading import LoadedStudy
from joules.core.record import Record
from joules.core.stored import read_record, read_warm_up
from joules.core.study import Study
from joules.core.warm_up_files import WarmUp
from joules.core.wording import percent
from joules.machine.processor import cpu_model
from joules.measure import least_length, protocol
from joules.measure.preparation import settings_of
from joules.measure.warm_up import WARM_UP_PROBLEMS

Four = tuple[float, float, float, float]  # least, middle, most, and the limit of what is possible
MIDDLE, MOST, LIMIT = 1, 2, 3

# Decoding reads every weight once per token, so memory bandwidth bounds it (Pope et al., MLSys
# 2023). Two channels of DDR4-3200 have 51 GB/s (JEDEC JESD79-4) and a program gets less.
BANDWIDTH: Four = (50e9, 38e9, 30e9, 30e9)  # byte/s, without a GPU
GPU_BANDWIDTH: Four = (1000e9, 450e9, 200e9, 200e9)
ANSWER_TOKENS = (150, 200, 250)  # of an instructed model on a HumanEval problem
PROMPT_TOKENS = 200  # HumanEval's mean of 450 characters, and a chat template around it
PREFILL_SPEEDUP = 4.0  # prompt tokens per second, over generated ones
LOAD_BYTES_PER_S: Four = (2e9, 0.5e9, 0.2e9, 0.1e9)
UNKNOWN_MODEL_BYTES = 4_700_000_000  # 7 billion weights at 4 bit, where no size is known
FLUSH_TOKENS = 2  # a flush prompt of one token and its answer, before each prompt
OVERHEAD_S: Four = (2, 4, 10, 30)  # of a run: processes, trackers, files
GRADE_S: Four = (0.01, 0.02, 0.1, 5)  # of an answer, in the sandbox
POWER_SHARE = (0.3, 0.6, 1.0)  # of the thermal design power, over windows of work and of rest
RUN_BYTES, TASK_BYTES, TOKEN_BYTES = 60_000, 1_000, 10  # records, grades, tables, archive


@dataclasses.dataclass(frozen=True)
class Cell:
    """Speed of one model on one arm, in seconds and tokens, from least to most time.

    Attributes:
        measured: whether it is from a warm-up; else it is assumed.
        load_s: to load the weights.
        prefill_s: per prompt.
        token_s: per generated token.
        tokens: per answer; the last is `max_tokens`.
    """

    measured: bool
    load_s: Four
    prefill_s: Four
    token_s: Four
    tokens: Four


def assumed_cell(file_bytes: int, gpu_layers: int, max_tokens: int) -> Cell:
    """Return the speed of a model of this size by the rules of thumb above."""
    bandwidth = GPU_BANDWIDTH if gpu_layers else BANDWIDTH
    token_s = [file_bytes / each for each in bandwidth]
    tokens = [min(each, max_tokens) for each in ANSWER_TOKENS]
    return Cell(
        measured=False,
        load_s=four(file_bytes / each for each in LOAD_BYTES_PER_S),
        prefill_s=four(PROMPT_TOKENS * each / PREFILL_SPEEDUP for each in token_s),
        token_s=four(token_s),
        tokens=four([*tokens, max_tokens]),
    )


def measured_cell(warm_up: WarmUp, max_tokens: int) -> Cell:
    """Return the speed seen in a warm-up; answers are within two standard errors of their mean."""
    answers = warm_up.answers
    counts = [answer.generated_tokens for answer in answers]
    mean = basic.mean(counts)
    error = 2 * basic.stdev(counts) / math.sqrt(len(counts)) if len(counts) > 1 else mean / 2
    decode_s = sum(answer.decode_s for answer in answers)
    prefill_s = basic.mean(answer.duration_s - answer.decode_s for answer in answers)
    return Cell(
        measured=True,
        load_s=(warm_up.load_s,) * 4,
        prefill_s=(prefill_s,) * 4,
        token_s=(decode_s / max(1, sum(counts)),) * 4,
        tokens=(max(1, mean - error), mean, min(mean + error, max_tokens), max_tokens),
    )


def four(values: Iterable[float]) -> Four:
    """Return exactly four numbers as a tuple."""
    least, middle, most, limit = (float(value) for value in values)
    return least, middle, most, limit


def prompt_s(cell: Cell, kind: str, case: int) -> float:
    """Return the seconds of one prompt with its answer and the flush prompt before it."""
    tokens = cell.tokens[LIMIT if kind == "fixed" else case]
    return cell.prefill_s[case] + (tokens + FLUSH_TOKENS) * cell.token_s[case]


def run_s(cell: Cell, kind: str, study: Study, case: int) -> float:
    """Return the seconds of one run: all windows, gaps, rest and grading."""
    windows = study.windows
    each_s = prompt_s(cell, kind, case)
    # The answer in which the time is up goes past it, by half of itself in the middle.
    last_s = cell.prefill_s[case] + protocol.SETTLE_TOKENS * cell.token_s[case]
    settle_s = study.settle.seconds + min(last_s, each_s) / 2
    rest_s = max(windows.rest_s, windows.rest_cap_s) if case == LIMIT else windows.rest_s
    waiting_s = windows.preflight_s + 3 * windows.idle_s + rest_s + OVERHEAD_S[case]
    tasks_s = tasks_of(study, kind) * (each_s + GRADE_S[case])
    return waiting_s + cell.load_s[case] + settle_s + tasks_s


def tasks_of(study: Study, kind: str) -> int:
    """Return how many problems a run of a kind answers."""
    return least_length.problems_of(study, kind)


def too_short(study: Study, cells: Mapping[tuple[str, str], Cell]) -> list[str]:
    """Return which runs are too short for the headline's meter, even if they take the most time."""
    return [
        said
        for (model, runtime), cell in cells.items()
        for kind in study.kinds
        for seconds in [tasks_of(study, kind) * prompt_s(cell, kind, MOST)]
        if (
            said := least_length.complaint(
                study,
                f"{model} on {runtime}",
                kind,
                seconds,
                int(cell.tokens[LIMIT]),
                "the forecast",
            )
        )
    ]


def cells_of(loaded: LoadedStudy) -> dict[tuple[str, str], Cell]:
    """Return the speed of each model on each arm; a warm-up of other settings is not used."""
    study, states = loaded.study, model_states(loaded)
    largest = max((each.file_bytes or 0 for each in states), default=0) or UNKNOWN_MODEL_BYTES
    cells = {}
    for state in states:
        most = loaded.max_tokens(state.name)
        for name, arm in study.compared.items():
            asked = arm.asked(study.settings)
            wanted = settings_of(asked, "task", most, as_installed=arm.as_installed)
            file = paths.warm_up_file(loaded.results, state.name, name)
            warm_up = read_warm_up(file) if file.exists() else None
            cells[state.name, name] = (
                measured_cell(warm_up, most)
                if warm_up is not None and warm_up.settings == wanted
                else assumed_cell(state.file_bytes or largest, asked.gpu_layers, most)
            )
    return cells


def most_gpu_layers(study: Study) -> int:
    """Return the most layers that an arm is asked to compute on the GPU."""
    return max(arm.asked(study.settings).gpu_layers for arm in study.compared.values())


def total_s(study: Study, cells: Mapping[tuple[str, str], Cell], runs: Sequence[Run]) -> Four:
    """Return the seconds that runs take, each once, and the warm-ups that are still to be made."""
    totals = []
    for case in range(4):
        sum_s = sum(run_s(cells[run.model, run.arm], run.kind, study, case) for run in runs)
        for cell in cells.values() if runs else ():
            if not cell.measured:
                prompts = min(WARM_UP_PROBLEMS, tasks_of(study, "task"))
                sum_s += cell.load_s[case] + prompts * prompt_s(cell, "task", case)
        totals.append(sum_s)
    return four(totals)


def record_bytes(study: Study, cells: Mapping[tuple[str, str], Cell], runs: Sequence[Run]) -> int:
    """Return about how many bytes the records of runs take, with what is made from them."""
    total = 0.0
    for run in runs:
        tokens = cells[run.model, run.arm].tokens[LIMIT if run.kind == "fixed" else MIDDLE]
        total += RUN_BYTES + tasks_of(study, run.kind) * (TASK_BYTES + tokens * TOKEN_BYTES)
    return int(total)


def earlier_records(loaded: LoadedStudy) -> list[Record]:
    """Return the study's records that were made on a machine with this processor."""
    files = [loaded.record(run) for run in loaded.runs()]
    records = [read_record(file) for file in files if file.exists()]
    here = cpu_model()
    return [each for each in records if each.environment.before.machine.cpu == here]


def power_of(records: Sequence[Record], gpu_layers: int) -> tuple[list[float], str]:
    """Return least, middle and most watts over a whole run, and what they are based on."""
    seen = [
        sum(window.energy_j.headline_j() for window in record.windows)
        / sum(window.duration_s for window in record.windows)
        for record in records
        if all(window.energy_j.has_headline() for window in record.windows)
    ]
    if seen:
        tiers = "/".join(sorted({record.instrument.tier for record in records}))
        basis = f"mean power of {len(seen)} earlier records of this study here (tier {tiers})"
        return [min(seen), basic.mean(seen), max(seen)], basis
    watts, basis = thermal_design_power()
    if gpu_layers:
        limit = gpu_power_limit()
        watts += limit
        basis += f", and the GPU's power limit of {limit:.0f} W"
    shares = " to ".join(percent(share) for share in (POWER_SHARE[0], POWER_SHARE[-1]))
    return [share * watts for share in POWER_SHARE], f"assumed {shares} of {basis}"


def thermal_design_power() -> tuple[float, str]:
    """Return the processor's thermal design power in watts by CodeCarbon's list, and how known."""
    from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE, TDP

    logging.disable(logging.WARNING)
    try:
        found = TDP()
        listed = found._get_cpu_power_from_registry(found.model)
    finally:
        logging.disable(logging.NOTSET)
    if listed:
        return float(listed), f"the processor's thermal design power, {listed:.0f} W by its model"
    watts = float(found.tdp or DEFAULT_POWER_PER_CORE)
    return watts, (
        f"{watts:.0f} W, CodeCarbon's {DEFAULT_POWER_PER_CORE} W per thread, as it does not know "
        "this processor"
    )


def gpu_power_limit() -> float:
    """Return the power limit of all NVIDIA GPUs in watts; 0 where none is seen."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return sum(pynvml.nvmlDeviceGetEnforcedPowerLimit(each) for each in handles) / 1000
    except Exception:  # the library raises its own classes, all meaning: no GPU to ask
        return 0.0
