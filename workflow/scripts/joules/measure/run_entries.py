"""What a record says of a run's windows and answers: its entries, and how the meters did."""

import dataclasses
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from joules.core.energy import WALL, Energy
from joules.core.errors import UserError
from joules.core.inference import Completion, Prompt
from joules.core.record import Gaps, Task, Window
from joules.core.values import EnergyChoice
from joules.measure.instrument import Instrument, Lap, MeasuredWindow
from joules.measure.validity import SeenOfMeters


@dataclasses.dataclass(frozen=True)
class Answer:
    """One measured task before it becomes an entry of the record; `lap` is of the task alone."""

    task_id: str
    prompt_token_ids_sha256: str
    prompt: Prompt
    completion: Completion
    start_monotonic_s: float
    lap: Lap


def task_entries(
    answers: Sequence[Answer],
    counted: Sequence[Sequence[int]] | None,
    window: MeasuredWindow,
    instrument: Instrument,
    keep_ids: bool,
) -> list[Task]:
    """Return the record's `tasks`. `counted` are the token ids of each text when read again.

    Raises UserError when an answer without counts from its runtime could not be counted again.
    """
    entries = []
    for index, answer in enumerate(answers):
        completion, ids = answer.completion, None if counted is None else counted[index]
        again = None if ids is None else len(ids)
        generated = completion.generated_tokens if completion.counts_known else again
        if generated is None:
            raise UserError(
                f"{answer.task_id}: the runtime gave no token counts and the text could not be "
                "counted again. Install llama-cpp-python beside the runtime; it counts."
            )
        prefill_s = completion.prefill_s
        begins_s = answer.start_monotonic_s + (completion.overhead_s or 0.0)
        entries.append(
            Task(
                task_id=answer.task_id,
                prompt_token_ids_sha256=answer.prompt_token_ids_sha256,
                prompt_tokens=len(answer.prompt.token_ids),
                generated_tokens=generated,
                retokenised_tokens=again,
                retokenised_ids=list(ids) if ids is not None and keep_ids else None,
                start_s=answer.start_monotonic_s - window.start_monotonic_s,
                overhead_s=completion.overhead_s,
                prefill_s=prefill_s,
                decode_s=completion.decode_s,
                duration_s=answer.lap.duration_s,
                energy_j=answer.lap.energy_j,
                prefill_energy_j=None
                if prefill_s is None
                else instrument.between_j(begins_s, begins_s + prefill_s),
                finish_reason=completion.finish_reason,
                completion=completion.text,
            )
        )
    return entries


def net_of(window: MeasuredWindow, idle: MeasuredWindow) -> Energy:
    """Return a window's energy less that of the idle machine in the same time, per component."""
    share = window.duration_s / idle.duration_s if idle.duration_s else 0.0

    def net(gross: float | None, calm: float | None) -> float | None:
        return None if gross is None or calm is None else gross - calm * share

    gross, calm = window.energy_j, idle.energy_j
    parts = (net(gross.cpu, calm.cpu), net(gross.gpu, calm.gpu), net(gross.dram, calm.dram))
    wall = gross.wall if gross.wall is UNSET else net(gross.wall_j(), calm.wall_j())
    return Energy(*parts, wall)


def window_entry(window: MeasuredWindow, idle: MeasuredWindow) -> Window:
    """Return the record's entry of one window."""
    return Window(
        name=window.name,
        start_monotonic_s=window.start_monotonic_s,
        start_wall=window.start_wall,
        duration_s=window.duration_s,
        energy_j=window.energy_j,
        energy_own_j=window.energy_own_j,
        net_energy_j=net_of(window, idle),
        meters_j=window.meters_j,
    )


def differences(window: MeasuredWindow) -> dict[str, float]:
    """Return CodeCarbon's energy over that of the own counters, less 1, per shared component."""
    theirs, ours = window.energy_j, window.energy_own_j
    shared = {"cpu": (theirs.cpu, ours.cpu), "gpu": (theirs.gpu, ours.gpu)}
    return {
        part: their_j / our_j - 1 if our_j else float(their_j > 0)
        for part, (their_j, our_j) in shared.items()
        if their_j is not None and our_j is not None
    }


def gaps_of(
    gaps: Sequence[Lap], tasks: Sequence[Task], window: MeasuredWindow, counted: EnergyChoice
) -> Gaps:
    """Return the record's `gaps`: what lies in the tasks window and in none of its tasks.

    `conservation` holds their sum with the tasks, read by a tracker of their own, against the
    window's. A meter at the wall sees no gaps: then it is that of the processor, where it is known.
    """
    parts_j = Energy.total([each.energy_j for each in gaps])
    duration_s, by_wall = sum(each.duration_s for each in gaps), counted == WALL
    told: EnergyChoice = "processor" if by_wall else counted
    if by_wall and not window.energy_j.has_headline(told):
        return Gaps(duration_s, None, None, None, parts_j)
    gaps_j, whole_j = parts_j.headline_j(told), window.energy_j.headline_j(told)
    tasks_j = sum(task.energy_j.headline_j(told) for task in tasks)
    return Gaps(
        duration_s=duration_s,
        energy_j=None if by_wall else gaps_j,
        share=None if by_wall else gaps_j / whole_j if whole_j else 0.0,
        conservation=(tasks_j + gaps_j) / whole_j - 1 if whole_j else None,
        by_component_j=parts_j,
    )


def seen_of_meters(
    windows: Sequence[MeasuredWindow],
    tasks: MeasuredWindow,
    instrument: Instrument,
    conservation: float | None,
) -> SeenOfMeters:
    """Return what `validity.counter_checks` looks at."""
    meter = instrument.meter
    own = msgspec.structs.asdict(tasks.energy_own_j)
    silence_s = tasks.longest_silence_s()
    unread_s = meter.largest_gap_s(tasks.start_monotonic_s, tasks.end_s)
    shares = []
    for part, used_j in own.items():
        range_j = meter.smallest_range_j(part)
        if range_j and used_j is not None and tasks.duration_s:
            shares.append(used_j / tasks.duration_s * silence_s / range_j)
    return SeenOfMeters(
        counters=instrument.seen_of_counters(tasks),
        sampling_gap_s=max(silence_s, unread_s or 0.0),
        late_s=max(instrument.tasks_late_s, *(window.late_s for window in windows)),
        wrap_share=max(shares, default=None),
        cross_check=differences(tasks),
        conservation=conservation,
    )
