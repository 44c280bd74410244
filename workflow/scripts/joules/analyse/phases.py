"""Where energy goes: prefill, decode, overhead, loading; and when a dearer load pays.

Energies are in joule, times in second, power in watt. A number that the data cannot give is NaN or
None.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from joules.analyse.conventions import ALPHA, Row, Values, runtime_order
from joules.analyse.derived_columns import over
from joules.analyse.estimates import numeric
from joules.analyse.verdicts import DIFFERENT

PARTS = ("prefill", "decode", "overhead")
PER_TOKEN = {"prefill": "prompt_tokens", "decode": "generated_tokens"}
POWER, ENERGY, SHARE = range(3)  # rows of a fit
SHORT = 0.01  # of the time: a shorter part is counted with the longest one
LARGEST_CONDITION = 30.0  # of the scaled times; beyond, they are collinear (Belsley et al., 1980)

PHASE_COLUMNS = [
    *("model", "runtime", "runtime_label", "runs", "tasks"),
    *(f"{part}_power_w{end}" for part in PARTS for end in ("", "_low", "_high")),
    *(f"{part}_j_per_token{end}" for part in PER_TOKEN for end in ("", "_low", "_high")),
    *("overhead_j_per_task", "prefill_share", "prefill_share_low", "prefill_share_high", "r2"),
    *("direct_tasks", "direct_prefill_j_per_token", "direct_decode_j_per_token"),
    *("direct_prefill_share", "load_energy_j", "residency_power_w", "note"),
]


def phases(tasks: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return per model and runtime the power and the energy per token of each part of an answer.

    Over the tasks of the valid runs of kind `task`: energy_j = P_prefill * prefill_s + P_decode *
    decode_s + P_overhead * overhead_s, on the times that the runtime measured; no intercept, and
    no overhead where records do not know it. Least squares with weights 1 / duration: the parts
    add up to the energy of the tasks, and long answers do not outweigh all others. J per token is
    power times seconds per token, sums over sums; `prefill_share` is of the parts' sum.

    Intervals hold 95 % over runs and tasks, which are two-way clusters: jackknife variances
    (MacKinnon, Nielsen and Webb, Econometrics and Statistics, 2024: the largest of both together,
    of runs alone and of tasks alone), t quantiles with the degrees of freedom of such a sum
    (Satterthwaite, Biometrics Bulletin 2, 1946). The sandwich of two-way clusters (Cameron,
    Gelbach and Miller, J. Business and Economic Statistics 29, 2011) covered 30 to 94 % with 10
    runs of 20 tasks.

    What the tasks cannot tell apart is None, and `note` says why; where a part is negative, no
    share is given. The direct split takes the tasks whose energy between start and end of the
    prefill was read from counters, as sums over sums; its decode holds the overhead.
    `load_energy_j` and `residency_power_w` (loaded and idle, less idle) are means over the runs.
    """
    rows: list[Row] = []
    own = runs[(runs["kind"] == "task") & runs["valid"]]
    of_cell = own.groupby(["model", "runtime"])[["load_energy_j", "residency_power_w"]].mean()
    used = tasks[tasks["kind"] == "task"].merge(
        own[["model", "runtime", "block"]], on=["model", "runtime", "block"]
    )
    for (model, runtime, label), group in used.groupby(["model", "runtime", "runtime_label"]):
        row: Row = dict.fromkeys(PHASE_COLUMNS)
        row |= {"model": model, "runtime": runtime, "runtime_label": label}
        row |= {"runs": group["block"].nunique(), "tasks": len(group)}
        row |= _split_by_times(group) | _direct_split(group)
        row |= of_cell.loc[(model, runtime)].to_dict()
        rows.append(row)
    return numeric(pd.DataFrame(rows, columns=PHASE_COLUMNS))


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Estimates with their variances over runs and tasks; one entry per term.

    Attributes:
        estimates: rows `POWER`, `ENERGY` (over all tasks) and `SHARE` (of all terms' energy).
        errors: half widths of their intervals, likewise.
        stated: False where the data are one run, whose intervals say nothing of other runs.
    """

    estimates: Values
    errors: Values
    stated: bool

    def with_ends(self, name: str, what: int, place: int, per: float = 1.0) -> Row:
        """Return an estimate of one term over `per`, as three columns."""
        value, error = (float(rows[what, place]) / per for rows in (self.estimates, self.errors))
        ends = (value - error, value + error) if self.stated else (None, None)
        return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


def _split_by_times(group: pd.DataFrame) -> Row:
    if group["energy_j"].isna().any():
        return {"note": "The energy of single tasks is not known."}
    if group["prefill_s"].isna().any() or group["decode_s"].isna().any():
        return {"note": "The runtime does not tell the times of prefill and decode."}
    seconds = {"prefill": group["prefill_s"], "decode": group["decode_s"]}
    if group["overhead_s"].notna().all():
        seconds["overhead"] = group["overhead_s"]
    times = {part: values.to_numpy(dtype=float) for part, values in seconds.items()}
    terms, notes = _terms(times)
    design = np.column_stack(list(terms.values()))
    energy_j = group["energy_j"].to_numpy(dtype=float)
    whole_s = design.sum(axis=1)
    if group["task_id"].nunique() <= len(terms) or not (whole_s > 0).all():
        return {"note": "There are too few tasks with a duration."}
    scaled = design / np.sqrt(whole_s)[:, None]
    if np.linalg.cond(scaled / np.linalg.norm(scaled, axis=0)) > LARGEST_CONDITION:
        return {"note": "The times of the parts rise and fall together."}
    fit = _fit(design, energy_j, pd.factorize(group["block"])[0], pd.factorize(group["task_id"])[0])
    if fit is None:
        return {"note": "Without one of the tasks, the times of the parts rise and fall together."}
    power_w = fit.estimates[POWER]
    row: Row = {"r2": _explained(energy_j, design @ power_w)}
    likely_w = energy_j.sum() / whole_s.sum()
    for place, part in enumerate(terms):
        if not fit.errors[POWER, place] <= likely_w:
            notes.append(f"The power of {part} is not known to within that of the whole task.")
            continue
        row |= fit.with_ends(f"{part}_power_w", POWER, place)
        if part in PER_TOKEN:
            tokens = float(group[PER_TOKEN[part]].sum())
            row |= fit.with_ends(f"{part}_j_per_token", ENERGY, place, tokens) if tokens else {}
        else:
            row["overhead_j_per_task"] = float(fit.estimates[ENERGY, place]) / len(group)
        if part == "prefill" and len(terms) > 1 and (power_w >= 0).all():
            row |= fit.with_ends("prefill_share", SHARE, place)
    if (power_w < 0).any():
        notes.append("A part is negative: no share of the energy is given.")
    return row | {"note": " ".join(notes) or None}


def _terms(times: dict[str, Values]) -> tuple[dict[str, Values], list[str]]:
    """Return the times by term, parts that are too short added to the longest, and what was added.

    The power of a part of hardly any time would be an intercept in disguise.
    """
    whole = sum(values.sum() for values in times.values())
    longest = max(times, key=lambda part: times[part].sum())
    terms, notes = dict(times), []
    for part, values in times.items():
        if part != longest and values.sum() < SHORT * whole:
            terms[longest] = terms[longest] + terms.pop(part)
            notes.append(
                f"{part} takes under {100 * SHORT:g} % of the time; it counts as {longest}."
            )
    return terms, [note[0].upper() + note[1:] for note in notes]


def _explained(seen: Values, fitted: Values) -> float | None:
    spread = float(((seen - seen.mean()) ** 2).sum())
    return 1.0 - float(((seen - fitted) ** 2).sum()) / spread if spread > 0 else None


def _fit(design: Values, energy_j: Values, runs: np.ndarray, tasks: np.ndarray) -> _Fit | None:
    """Return the weighted fit of energies on times, with jackknife intervals; None if singular.

    Leaving out a run leaves out its times as well, so that the energy of a part holds their
    spread; the tasks are those that there are.
    """
    weights = 1.0 / design.sum(axis=1)
    squares = np.einsum("ni,nj,n->nij", design, design, weights)
    products = design * (energy_j * weights)[:, None]
    whole = squares.sum(axis=0), products.sum(axis=0), design.sum(axis=0)

    def estimates(square: Values, product: Values, seconds: Values) -> Values:
        power_w = np.linalg.solve(square, product[..., None])[..., 0]
        energy = power_w * seconds
        return np.stack([power_w, energy, energy / energy.sum(axis=-1, keepdims=True)], axis=-2)

    def variance(clusters: np.ndarray, with_times: bool) -> Values:
        count = int(clusters.max()) + 1
        left_out = [_sums(clusters, count, values) for values in (squares, products)]
        seconds = whole[2]
        if with_times:
            own_s = _sums(clusters, count, design)
            seconds = (whole[2] - own_s) * count / (count - 1)
        others = estimates(whole[0] - left_out[0], whole[1] - left_out[1], seconds)
        return (count - 1) / count * ((others - best) ** 2).sum(axis=0)

    with np.errstate(all="ignore"):
        try:
            best = estimates(*whole)
            by_task = variance(tasks, with_times=False)
            if not runs.any():
                error = _quantile(_effective(tasks, energy_j) - 1) * np.sqrt(by_task)
                return _Fit(best, error, stated=False)
            by_run = variance(runs, with_times=True)
            by_both = variance(np.arange(len(design)), with_times=False)
        except np.linalg.LinAlgError:
            return None
        largest = np.maximum.reduce([by_run, by_task, by_run + by_task - by_both])
        freedom = (int(runs.max()), _effective(tasks, energy_j) - 1)
        together = largest**2 / (by_run**2 / freedom[0] + by_task**2 / freedom[1])
        error = _quantile(np.fmax(together, min(freedom))) * np.sqrt(largest)
    return _Fit(best, error, stated=True)


def _quantile(freedom: float | Values) -> Values:
    return np.asarray(stats.t.isf(ALPHA / 2, freedom))


def _effective(tasks: np.ndarray, energy_j: Values) -> float:
    """Return how many equal tasks would say as much: long answers outweigh short ones."""
    own_j = np.bincount(tasks, energy_j)
    return float(own_j.sum() ** 2 / (own_j**2).sum())


def _sums(clusters: np.ndarray, count: int, values: Values) -> Values:
    """Return the sums of `values`, one per cluster, along the first axis."""
    found = np.zeros((count, *values.shape[1:]))
    np.add.at(found, clusters, values)
    return found


def _direct_split(group: pd.DataFrame) -> Row:
    split = group.dropna(subset=["prefill_energy_j", "energy_j"])
    if not len(split):
        return {"direct_tasks": 0}
    prefill_j, whole_j = float(split["prefill_energy_j"].sum()), float(split["energy_j"].sum())
    return {
        "direct_tasks": len(split),
        "direct_prefill_j_per_token": over(prefill_j, split["prompt_tokens"].sum()),
        "direct_decode_j_per_token": over(whole_j - prefill_j, split["generated_tokens"].sum()),
        "direct_prefill_share": over(prefill_j, whole_j),
    }


BREAK_EVEN_COLUMNS = [
    *("model", "runtime_a", "runtime_b", "load_a_j", "load_b_j", "task_a_j", "task_b_j"),
    *("break_even_tasks", "note"),
]
UNCLAIMED = "No claim."


def break_even(
    cells: pd.DataFrame, comparisons: pd.DataFrame, runtimes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return per pair of runtimes after how many tasks their total energies are equal.

    Loading the model once and answering N tasks in a row needs E(N) = E_load + N * E_task. Both
    are means over the valid runs of kind `task`. `break_even_tasks` is None where one runtime
    needs less for every N; `note` says which. Both say something of a pair only if it is claimable
    and apart by its verdict, and if it is the same runtime that needs less per token and per task.
    """
    rows: list[Row] = []
    own = cells[cells["kind"] == "task"]
    order = list(runtimes or runtime_order(cells))
    ratios = _apart(comparisons)
    for model, group in own.groupby("model"):
        found = group.set_index("runtime")
        present = [runtime for runtime in order if runtime in found.index]
        for a, b in itertools.combinations(present, 2):
            load_a, load_b = found.loc[[a, b], "mean_load_energy_j"]
            task_a, task_b = found.loc[[a, b], "mean_energy_j_per_task"]
            tasks, note = None, UNCLAIMED
            if (ratios.get((model, a, b), 1.0) - 1.0) * (task_a - task_b) > 0:
                tasks, note = _crossing(load_a - load_b, task_b - task_a, (a, b))
            values = (model, a, b, load_a, load_b, task_a, task_b, tasks, note)
            rows.append(dict(zip(BREAK_EVEN_COLUMNS, values, strict=True)))
    return numeric(pd.DataFrame(rows, columns=BREAK_EVEN_COLUMNS))


def _apart(comparisons: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Return the ratios of the pairs that may be said to be apart, in either order of names."""
    stated = comparisons["claimable"].eq(True) & comparisons["verdict"].isin(DIFFERENT)
    found = {}
    for row in comparisons[stated & (comparisons["kind"] == "task")].itertuples():
        found[(row.model, row.runtime_a, row.runtime_b)] = row.ratio
        found[(row.model, row.runtime_b, row.runtime_a)] = 1.0 / row.ratio
    return found


def _crossing(
    more_load: float, less_per_task: float, names: tuple[str, str]
) -> tuple[float | None, str]:
    """Return N with more_load = N * less_per_task, and in words what it means.

    `more_load`: what the first runtime needs more to load; `less_per_task`: less per task, not 0.
    """
    a, b = names
    if not np.isfinite(more_load):
        return None, "The energy of loading is not known for one runtime."
    if more_load * less_per_task > 0:
        first, later = (b, a) if more_load > 0 else (a, b)
        return more_load / less_per_task, f"{first} needs less below, {later} above."
    less = a if less_per_task > 0 else b
    return None, f"{less} needs less for any number of tasks."
