"""The headline table of a campaign from its files, by json, numpy and scipy alone.

Written from the method and not from the package, of which nothing is imported here. Energies are
in joule, times in second. Ratios are of geometric means, a over b.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats

LEVEL = 0.05
MARGIN = 0.05


def read_runs(campaign):
    """Return one dict per record: what names the run, and what is counted in it."""
    runs = []
    for path in sorted((Path(campaign) / "records").glob("*/*/*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        grade_path = Path(campaign) / "grades" / path.relative_to(Path(campaign) / "records")
        grade = json.loads(grade_path.read_text(encoding="utf-8"))
        runs.append(counted(record, grade))
    return runs


def joules_of(energy):
    """Return processor plus GPU; the memory is no part of the headline."""
    return (energy["cpu"] or 0.0) + (energy["gpu"] or 0.0)


def counted(record, grade):
    """Return one run: the headline is the tasks window less its gaps, in energy and in time.

    Its `energy_j` is not read: that of the schemas 1 and 2 holds the gaps. They have time between
    tasks and gaps, whose energy counts; since 3 tasks and gaps share their ends.
    """
    assert record["schema"] in (1, 2, 3)
    windows = {window["name"]: window for window in record["windows"]}
    whole, idle = windows["tasks"], windows["idle_cold"]
    energy = joules_of(whole["energy_j"]) - record["gaps"]["energy_j"]
    seconds = sum(task["duration_s"] for task in record["tasks"])
    if record["schema"] < 3:
        seconds = whole["duration_s"] - record["gaps"]["duration_s"]
    idle_w = joules_of(idle["energy_j"]) / idle["duration_s"]
    tokens = sum(task["generated_tokens"] for task in record["tasks"])
    passed = sum(task["verdict"] == "passed" for task in grade["tasks"])
    broken = [rule["code"] for rule in record["validity"]["codes"]]
    return {
        "model": record["model"]["name"],
        "arm": record["runtime"]["name"],
        "kind": record["kind"],
        "block": record["repetition"],
        "sitting": record["session"],
        "valid": not any(rule["invalidates"] for rule in record["validity"]["codes"]),
        "broken": broken,
        "problems": len(record["tasks"]),
        "passed": passed,
        "energy_j": energy,
        "energy_j_per_token": energy / tokens,
        "energy_j_per_task": energy / len(record["tasks"]),
        "energy_j_per_correct": energy / passed,
        "gross_energy_j": joules_of(whole["energy_j"]),
        "gross_energy_j_per_token": joules_of(whole["energy_j"]) / tokens,
        "net_energy_j_per_token": (energy - idle_w * seconds) / tokens,
        "idle_share": idle_w * seconds / energy,
        "gaps_energy_j": record["gaps"]["energy_j"],
        "gap_share": record["gaps"]["energy_j"] / joules_of(whole["energy_j"]),
        "duration_s": seconds,
        "seconds_per_token": seconds / tokens,
        "power_w": energy / seconds,
        "generated_tokens": tokens,
        "tasks": {
            task["task_id"]: (
                task["completion"],
                joules_of(task["energy_j"]),
                task["generated_tokens"],
            )
            for task in record["tasks"]
        },
    }


def of(runs, model, arm, kind):
    """Return the valid runs of a cell by their block."""
    wanted = (model, arm, kind)
    return {
        run["block"]: run
        for run in runs
        if (run["model"], run["arm"], run["kind"]) == wanted and run["valid"]
    }


def blocks_of(left, right):
    """Return the pairs of runs of one block and one sitting, in the order of the blocks."""
    shared = sorted(set(left) & set(right))
    pairs = [(left[block], right[block]) for block in shared]
    return [(a, b) for a, b in pairs if a["sitting"] == b["sitting"]]


def control_pairs(runs, model):
    """Return the pairs of the null control: each second run after the run of its arm and block."""
    own = [run for run in runs if run["model"] == model and run["valid"]]
    first = {(run["arm"], run["block"]): run for run in own if run["kind"] == "task"}
    second = {run["block"]: run for run in own if run["kind"] == "control"}
    places = {block: (run["arm"], block) for block, run in second.items()}
    return blocks_of(
        {block: first[place] for block, place in places.items() if place in first}, second
    )


def log_ratios(pairs, quantity):
    """Return log(a) - log(b) of each block."""
    return np.array([np.log(a[quantity]) - np.log(b[quantity]) for a, b in pairs])


def t_interval(values, level=LEVEL):
    """Return mean, lower and upper end of the t interval of the mean."""
    values = np.asarray(values, dtype=float)
    n, mean = len(values), values.mean()
    half = stats.t.ppf(1 - level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def paired_ratio(pairs, quantity, level=LEVEL):
    """Return ratio, lower and upper end."""
    return tuple(np.exp(t_interval(log_ratios(pairs, quantity), level)))


def sign_flip(d):
    """Return the two-sided p: the share of all 2**n sign patterns with a mean as far from 0."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(d))))
    means = np.abs(signs @ d) / len(d)
    return np.mean(means >= np.abs(d.mean()) * (1 - 1e-12))


def _t_of(d, against):
    return (d.mean() - against) / (d.std(ddof=1) / np.sqrt(len(d)))


def size(d):
    """Return twice the tail of the t test of |mean| against the margin, at most 1."""
    far = d if d.mean() >= 0 else -d
    return min(1.0, 2 * stats.t.sf(_t_of(far, np.log(1 + MARGIN)), len(d) - 1))


def equivalence(d):
    """Return the larger p of the two one-sided t tests against the two margins."""
    margin = np.log(1 + MARGIN)
    above_lower = stats.t.sf(_t_of(d, -margin), len(d) - 1)
    below_upper = stats.t.cdf(_t_of(d, margin), len(d) - 1)
    return max(above_lower, below_upper)


def holm(p_values):
    """Return Holm's step-down adjustment (Scand. J. Stat. 6, 1979), in the order given."""
    p_values = np.asarray(p_values, dtype=float)
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def wilson(passed, total):
    """Return Wilson's interval of a share (J. Am. Stat. Assoc. 22, 1927)."""
    z = stats.norm.ppf(1 - LEVEL / 2)
    share, spread = passed / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    return middle - half, middle + half


def tests_of(family):
    """Return one dict per list of log ratios: ratio, intervals, and each p with Holm's.

    `family`: the log ratios of each comparison of one family.
    """
    tests = {"p_value": sign_flip, "p_size": size, "p_equivalence": equivalence}
    raw = {name: [test(d) for d in family] for name, test in tests.items()}
    corrected = {name: holm(values) for name, values in raw.items()}
    rows = []
    for place, d in enumerate(family):
        ratio, low, high = np.exp(t_interval(d))
        _, all_low, all_high = np.exp(t_interval(d, LEVEL / len(family)))
        rows.append(
            {
                "n_blocks": len(d),
                "ratio": ratio,
                "ratio_low": low,
                "ratio_high": high,
                "simultaneous_low": all_low,
                "simultaneous_high": all_high,
                "p_value": raw["p_value"][place],
                "p_holm": corrected["p_value"][place],
                "p_size": raw["p_size"][place],
                "p_size_holm": corrected["p_size"][place],
                "p_equivalence": raw["p_equivalence"][place],
                "p_equivalence_holm": corrected["p_equivalence"][place],
            }
        )
    for row in rows:
        row["word"] = word(row)
    return rows


def word(row):
    """Return what the three tests say together."""
    differ, far, same = (
        row[name] < LEVEL for name in ("p_holm", "p_size_holm", "p_equivalence_holm")
    )
    if far:
        return "more than 5 % apart"
    if differ and same:
        return "apart, by less than 5 %"
    if differ:
        return "apart, by how much is open"
    return "equal within 5 %" if same else "open"


def equal_texts(left, right):
    """Return the problems that all runs of both arms answered with the same text."""
    runs = [*left.values(), *right.values()]
    return [
        problem
        for problem in runs[0]["tasks"]
        if len({run["tasks"][problem][0] for run in runs}) == 1
    ]


def equal_text_ratio(pairs, problems):
    """Return ratio and interval of J/token over the answers to these problems alone.

    Their part of a run's energy is their part of what its single tasks were read to take.
    """

    def per_token(run):
        chosen = [run["tasks"][problem] for problem in problems]
        part = sum(joule for _, joule, _ in chosen)
        whole = sum(joule for _, joule, _ in run["tasks"].values())
        return run["energy_j"] * part / whole / sum(tokens for _, _, tokens in chosen)

    d = [np.log(per_token(a)) - np.log(per_token(b)) for a, b in pairs]
    return tuple(np.exp(t_interval(d)))
