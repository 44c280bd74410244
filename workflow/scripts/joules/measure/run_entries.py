"""What a record says of a run's windows and answers: its entries, and how the meters did."""

import dataclasses
from collections.abc import Sequence

import msgspec

from joules.core.errors import UserError
from joules.core.inference import Completion, Prompt
from joules.core.record import Energy, Gaps, Task, Window
from joules.measure.instrument import Instrument, MeasuredWindow
from joules.measure.validity import SeenOfMeters


@dataclasses.dataclass(frozen=True)
class Answer:
    """One measured task before it becomes an entry of the record.

    `gap_energy_j` and `gap_duration_s` are of the gap before it: flush prompt and bookkeeping.
    """

    task_id: str
    prompt_token_ids_sha256: str
    prompt: Prompt
    completion: Completion
    start_monotonic_s: float
    duration_s: float
    energy_j: Energy
    gap_duration_s: float
    gap_energy_j: Energy


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
        start_s, prefill_s = answer.start_monotonic_s, completion.prefill_s
        entries.append(
            Task(
                task_id=answer.task_id,
                prompt_token_ids_sha256=answer.prompt_token_ids_sha256,
                prompt_tokens=len(answer.prompt.token_ids),
                generated_tokens=generated,
                retokenised_tokens=again,
                retokenised_ids=list(ids) if ids is not None and keep_ids else None,
                start_s=start_s - window.start_monotonic_s,
                prefill_s=prefill_s,
                decode_s=completion.decode_s,
                duration_s=answer.duration_s,
                energy_j=answer.energy_j,
                prefill_energy_j=None
                if prefill_s is None
                else instrument.meter.between_j(start_s, start_s + prefill_s),
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
    return Energy(net(gross.cpu, calm.cpu), net(gross.gpu, calm.gpu), net(gross.dram, calm.dram))


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
    )


def differences(window: MeasuredWindow) -> dict[str, float]:
    """Return CodeCarbon's energy over that of the own counters, less 1, per shared component."""
    theirs, ours = window.energy_j, window.energy_own_j
    shared = {"cpu": (theirs.cpu, ours.cpu), "gpu": (theirs.gpu, ours.gpu)}
    return {
        part: their_j / our_j - 1
        for part, (their_j, our_j) in shared.items()
        if their_j is not None and our_j
    }


def gaps_of(answers: Sequence[Answer], tasks: Sequence[Task], energy_j: float) -> Gaps:
    """Return the record's `gaps`: the tasks window of `energy_j` less its tasks."""
    gaps_j = sum(each.gap_energy_j.headline_j() for each in answers)
    tasks_j = sum(task.energy_j.headline_j() for task in tasks)
    return Gaps(
        duration_s=sum(each.gap_duration_s for each in answers),
        energy_j=gaps_j,
        share=gaps_j / energy_j if energy_j else 0.0,
        conservation=(tasks_j + gaps_j) / energy_j - 1 if energy_j else 0.0,
    )


def seen_of_meters(
    windows: Sequence[MeasuredWindow],
    tasks: MeasuredWindow,
    answers: Sequence[Answer],
    instrument: Instrument,
    conservation: float,
) -> SeenOfMeters:
    """Return what `validity.counter_checks` looks at."""
    meter = instrument.meter
    own = msgspec.structs.asdict(tasks.energy_own_j)
    silence_s = tasks.longest_silence_s()
    unread_s = meter.largest_gap_s(tasks.start_monotonic_s, tasks.end_s)
    longest_s = max([silence_s, *(answer.duration_s for answer in answers)])
    shares = []
    for part, used_j in own.items():
        range_j = meter.smallest_range_j(part)
        if range_j and used_j is not None and tasks.duration_s:
            shares.append(used_j / tasks.duration_s * longest_s / range_j)
    return SeenOfMeters(
        unreadable=meter.unreadable if meter.counters else None,
        resets=meter.resets if meter.counters else None,
        stuck=[part for part, used_j in own.items() if used_j == 0],
        sampling_gap_s=max(silence_s, unread_s or 0.0),
        late_s=max(instrument.tasks_late_s, *(window.late_s for window in windows)),
        wrap_share=max(shares, default=None),
        cross_check=differences(tasks),
        conservation=conservation,
    )
