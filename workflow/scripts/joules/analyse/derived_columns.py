"""Every column of a table of runs that follows from other columns.

Energies are in joule, times in second, power in watt. A number that the data cannot give is None,
in a table NaN.
"""

import pandas as pd

from joules.analyse.conventions import Row


def over(numerator: float | None, denominator: float | None) -> float | None:
    """Return the quotient; None where it has no meaning."""
    return numerator / denominator if numerator is not None and denominator else None


def net_energy(
    energy_j: float, idle_power_w: float | None, duration_s: float | None
) -> float | None:
    """Return an energy less that of the idle machine in the same time."""
    if idle_power_w is None or duration_s is None:
        return None
    return energy_j - idle_power_w * duration_s


def derived_columns(
    *,
    energy_j: float,
    generated_tokens: int,
    tasks: int | None,
    duration_s: float | None,
    idle_power_w: float | None,
    resident_power_w: float | None,
    passed: int | None,
    graded: int | None,
    gross_energy_j: float | None = None,
    dram_energy_j: float | None = None,
) -> Row:
    """Return the derived columns of one run.

    `energy_j` and `duration_s` are of the tasks, `gross_energy_j` is of the whole tasks window.
    Energy per token is `power_w` times `seconds_per_token`. `net_energy_j` is the energy less the
    idle power times the duration, and `idle_share` what that takes away, as a share of the energy:
    what the machine would have taken in the same time with nothing to do. The energy with DRAM is
    the headline plus that of the memory. `resident_power_w` is the power while the model is loaded
    and idle, `residency_power_w` what is above that of the idle machine. Energy per correct answer
    is None when none is.
    """
    residency_power_w, with_dram_j, idle_j = None, None, None
    net_energy_j = net_energy(energy_j, idle_power_w, duration_s)
    if resident_power_w is not None and idle_power_w is not None:
        residency_power_w = resident_power_w - idle_power_w
    if dram_energy_j is not None:
        with_dram_j = energy_j + dram_energy_j
    if idle_power_w is not None and duration_s is not None:
        idle_j = idle_power_w * duration_s
    return {
        "energy_j_per_token": over(energy_j, generated_tokens),
        "gross_energy_j_per_token": over(gross_energy_j, generated_tokens),
        "net_energy_j_per_token": over(net_energy_j, generated_tokens),
        "energy_with_dram_j_per_token": over(with_dram_j, generated_tokens),
        "energy_j_per_task": over(energy_j, tasks),
        "seconds_per_token": over(duration_s, generated_tokens),
        "tokens_per_s": over(generated_tokens, duration_s),
        "power_w": over(energy_j, duration_s),
        "net_energy_j": net_energy_j,
        "idle_share": over(idle_j, energy_j),
        "residency_power_w": residency_power_w,
        "pass_at_1": over(passed, graded),
        "energy_j_per_correct": over(energy_j, passed),
    }


def shared_out(tasks: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return the energy of each task such that the tasks of a run add up to its headline.

    Each gets its part of what the readings of the single tasks add up to. In records of the schemas
    1 and 2 that is not the headline: time lies between tasks and gaps.
    """
    run = ["model", "runtime", "kind", "block"]
    headline_j = tasks[run].merge(runs[[*run, "energy_j"]], on=run, how="left")["energy_j"]
    read_j = tasks.groupby(run)["energy_j"].transform("sum")
    return tasks["energy_j"] / read_j * headline_j.to_numpy()


def with_columns_of_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the columns that only the means of cells need."""
    return runs.assign(
        energy_delay_js=runs["energy_j"] * runs["duration_s"],
        dram_share=runs["dram_energy_j"] / runs["energy_j"],
        gco2e_per_1000_tasks=runs["gco2e"] / runs["tasks"] * 1000.0,
    )
