"""One record and its grade as rows of the tables; columns are those of the schemas in tables.py.

Energies are in joule, times in second, power in watt. Records of the schemas 1 and 2 lack some
values, which are then None. Energy without a component's name is what the study's headline counts:
CPU plus GPU, the GPU alone, or the whole machine, whose meter knows nothing of single tasks.
"""

import hashlib
import json
from collections.abc import Sequence
from operator import attrgetter

from msgspec import UNSET

from joules.analyse.conventions import Row
from joules.analyse.derived_columns import derived_columns, net_energy, over
from joules.analyse.mixes import build_of, instrument_of, machine_of, text_of
from joules.core.energy import WALL
from joules.core.files import rounded
from joules.core.grade_file import Grade
from joules.core.record import Record, RuleValue, Trace, Window
from joules.core.units import JOULE_PER_KWH
from joules.core.values import EnergyChoice

Columns = dict[str, Sequence[str | float | list[int] | None]]


def cell_of(record: Record) -> Row:
    """Return what names a run: model, runtime, its label, kind and block."""
    return {
        "model": record.model.name,
        "runtime": record.arm_name,
        "runtime_label": record.arm_label,
        "kind": record.kind,
        "block": record.repetition,
    }


def _stated_net_j(window: Window, counted: EnergyChoice) -> float | None:
    """Return the net energy that the record states; None where it states none."""
    return None if window.net_energy_j is None else window.net_energy_j.headline_or_none(counted)


def _energy_j(window: Window | None, counted: EnergyChoice) -> float | None:
    return window.energy_j.headline_or_none(counted) if window else None


def _power_w(window: Window | None, counted: EnergyChoice) -> float | None:
    return over(_energy_j(window, counted), window.duration_s) if window else None


def run_row(record: Record, grade: Grade | None, grams_per_kwh: float) -> Row:
    """Return the row of one run.

    `energy_j`, the headline, and `duration_s` are of the tasks alone, without the gaps between them
    (flush prompts and bookkeeping are ours); so are the energies of CPU, GPU and DRAM.
    `gross_energy_j` and `window_duration_s` are of the whole tasks window, `gap_share` is the gaps'
    part of the former. By a meter at the wall, `energy_j` and `duration_s` are of the whole window
    too, and `gap_share` is of its time. `resident_power_w` is the machine's power while the model
    is loaded and idle. `gco2e` = energy in kWh times `grams_per_kwh`. A run that imported nothing,
    or whose record counts it as loading, has no `import_energy_j`. For the rest see
    `joules.analyse.derived_columns`.
    """
    counted, headline_j, gaps = record.instrument.headline, record.headline_j(), record.gaps
    by_wall = counted == WALL
    windows: dict[str, Window] = {window.name: window for window in record.windows}
    whole, load, brought_in = windows["tasks"], windows.get("load"), windows.get("import")
    parts_j, duration_s = record.tasks_energy_j(), record.tasks_duration_s()
    gross_j = headline_j if by_wall else whole.energy_j.headline_j(counted)
    idle_power_w = _power_w(windows.get("idle_cold"), counted)
    resident_power_w = _power_w(windows.get("idle_resident"), counted)
    reasons = [task.finish_reason for task in record.tasks]
    passed, graded = (grade.passed, grade.total) if grade else (None, None)
    return {
        **cell_of(record),
        "study": record.study,
        "campaign": record.campaign,
        "position_planned": record.position.planned,
        "position_actual": record.position.actual,
        "session": record.session,
        "tier": record.instrument.tier,
        "headline": record.instrument.headline,
        "valid": record.validity.valid,
        "validity_codes": ";".join(broken.code for broken in record.validity.codes),
        "parameters": record.model.parameters,
        "quantization": record.model.quantization,
        "tasks": len(reasons),
        "prompt_tokens": record.prompt_tokens,
        "generated_tokens": record.generated_tokens,
        "energy_j": headline_j,
        "gross_energy_j": gross_j,
        "cpu_energy_j": parts_j.cpu,
        "gpu_energy_j": parts_j.gpu,
        "dram_energy_j": parts_j.dram,
        "idle_power_w": idle_power_w,
        "resident_power_w": resident_power_w,
        "duration_s": duration_s,
        "window_duration_s": whole.duration_s,
        "gap_share": over(record.gaps.duration_s, whole.duration_s) if by_wall else gaps.share,
        "import_energy_j": _energy_j(brought_in, counted),
        "import_duration_s": brought_in.duration_s if brought_in else None,
        "load_energy_j": _energy_j(load, counted),
        "load_duration_s": load.duration_s if load else None,
        "passed": passed,
        "graded": graded,
        "truncated": reasons.count("limit"),
        "aborted": reasons.count("aborted_by_runtime"),
        "settled": record.settle.settled,
        "gco2e": headline_j / JOULE_PER_KWH * grams_per_kwh,
        "instrument_sha256": instrument_of(record),
        "machine": text_of(machine_of(record)),
        "runtime_build": text_of(build_of(record)),
        "protocol": record.protocol,
        **derived_columns(
            energy_j=headline_j,
            generated_tokens=record.generated_tokens,
            tasks=len(reasons),
            duration_s=duration_s,
            idle_power_w=idle_power_w,
            resident_power_w=resident_power_w,
            passed=passed,
            graded=graded,
            gross_energy_j=gross_j,
            dram_energy_j=parts_j.dram,
        ),
        **_wall_columns(record, whole, windows.get("idle_cold")),
    }


def _wall_columns(record: Record, whole: Window, idle: Window | None) -> Row:
    """Return the columns of the whole machine beside the processor; none without such a meter.

    Both energies are of the whole tasks window, so that they are of the same time. That of the
    processor is CPU plus GPU. `wall_idle_share`: what the idle machine takes in that time.
    """
    wall, meter = record.instrument.components.get(WALL), record.instrument.wall_meter()
    if wall is None:
        return {}
    wall_j = whole.energy_j.wall_j()
    if record.instrument.headline == WALL:
        wall_j = record.energy_j
    processor_j = whole.energy_j.headline_or_none("processor")
    idle_power_w = _power_w(idle, WALL)
    cpu = record.instrument.components.get("cpu")
    return {
        "energy_wall_j": wall_j,
        "energy_processor_j": processor_j,
        "wall_over_processor": over(wall_j, processor_j),
        "wall_idle_power_w": idle_power_w,
        "wall_idle_share": None
        if idle_power_w is None
        else over(idle_power_w * whole.duration_s, wall_j),
        "wall_tier": wall.tier,
        "processor_tier": cpu.tier if cpu else None,
        "meter_emulated": bool(meter and meter.emulated),
    }


# Columns of the table of tasks that are attributes of a task.
TASK_FACTS = (
    *("task_id", "prompt_tokens", "generated_tokens", "retokenised_tokens", "prefill_s"),
    *("decode_s", "duration_s", "finish_reason", "start_s", "prefill_energy_j", "retokenised_ids"),
    "overhead_s",
)


def task_columns(record: Record, grade: Grade | None) -> Columns:
    """Return the rows of one run's tasks as columns, without those that name the run.

    `start_s` counts from the start of the tasks window; `prefill_energy_j` is the energy to the
    first token, where the counters can tell it apart.
    """
    tasks, counted = record.tasks, record.instrument.headline
    grades = {task.task_id: (task.verdict, task.rule) for task in grade.tasks} if grade else {}
    verdicts = [grades.get(task.task_id, (None, None)) for task in tasks]
    energies = [task.energy_j for task in tasks]
    # In one pass each: a large study has millions of tasks.
    facts = zip(*map(attrgetter(*TASK_FACTS), tasks), strict=True)
    return {
        **dict.fromkeys(TASK_FACTS, ()),
        **dict(zip(TASK_FACTS, facts, strict=False)),
        "order": range(1, len(tasks) + 1),
        "energy_j": [None if counted == WALL else each.headline_j(counted) for each in energies],
        "cpu_energy_j": [energy.cpu for energy in energies],
        "gpu_energy_j": [energy.gpu for energy in energies],
        "verdict": [verdict for verdict, _ in verdicts],
        "rule": [rule for _, rule in verdicts],
        "completion_sha256": [
            hashlib.sha256(task.completion.encode("utf-8", "surrogatepass")).hexdigest()
            for task in tasks
        ],
    }


def window_columns(record: Record) -> Columns:
    """Return the rows of one run's windows as columns, without those that name the run."""
    windows, counted = record.windows, record.instrument.headline
    energies = [window.energy_j.headline_or_none(counted) for window in windows]
    idle = next((window for window in windows if window.name == "idle_cold"), None)
    idle_power_w = _power_w(idle, counted)
    net_j = []
    for window, energy_j in zip(windows, energies, strict=True):
        stated_j = _stated_net_j(window, counted)
        own_j = None
        if energy_j is not None:
            own_j = net_energy(energy_j, idle_power_w, window.duration_s)
        net_j.append(own_j if stated_j is None else stated_j)
    return {
        "window": [window.name for window in windows],
        "start_monotonic_s": [window.start_monotonic_s for window in windows],
        "duration_s": [window.duration_s for window in windows],
        "energy_j": energies,
        "power_w": rounded([_power_w(window, counted) for window in windows]),
        "dram_energy_j": [window.energy_j.dram for window in windows],
        "net_energy_j": rounded(net_j),
    }


def trace_columns(record: Record) -> Columns:
    """Return the power of one run over time as columns; no row where none was recorded."""
    trace = record.trace or Trace("", 0.0, [], None, None, None)
    unknown = [None] * len(trace.time_s)
    return {
        "time_s": trace.time_s,
        "cpu_power_w": trace.cpu_power_w or unknown,
        "gpu_power_w": trace.gpu_power_w or unknown,
        "dram_power_w": trace.dram_power_w or unknown,
        "source": [trace.source] * len(trace.time_s),
        "wall_power_w": unknown if trace.wall_power_w is UNSET else trace.wall_power_w,
    }


def _text(value: RuleValue) -> str:
    return value if isinstance(value, str) else json.dumps(rounded(value), sort_keys=True)


def attempt_rows(record: Record, attempt: int) -> list[Row]:
    """Return one row per rule that an invalid attempt broke; one without a rule when none is said.

    `attempt` is its number among the attempts at this run.
    """
    started = record.windows[0].start_wall if record.windows else None
    own = cell_of(record) | {"attempt": attempt, "started": started}
    broken = [
        own | {"code": rule.code, "seen": _text(rule.seen), "limit": _text(rule.limit)}
        for rule in record.validity.codes
    ]
    return broken or [own | {"code": None, "seen": _text(None), "limit": _text(None)}]
