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
) -> Row:
    """Return the derived columns of one run.

    `net_energy_j` is the energy less the idle power times the duration. `resident_power_w` is the
    power while the model is loaded and idle, `residency_power_w` what is above that of the idle
    machine. Energy per correct answer is None when none is.
    """
    residency_power_w = None
    if resident_power_w is not None and idle_power_w is not None:
        residency_power_w = resident_power_w - idle_power_w
    return {
        "energy_j_per_token": over(energy_j, generated_tokens),
        "energy_j_per_task": over(energy_j, tasks),
        "tokens_per_s": over(generated_tokens, duration_s),
        "power_w": over(energy_j, duration_s),
        "net_energy_j": net_energy(energy_j, idle_power_w, duration_s),
        "residency_power_w": residency_power_w,
        "pass_at_1": over(passed, graded),
        "energy_j_per_correct": over(energy_j, passed),
    }


def net_energy_j_per_token(runs: pd.DataFrame) -> pd.Series:
    """Return the net energy of each run over its generated tokens."""
    return runs["net_energy_j"] / runs["generated_tokens"]


def with_columns_of_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the columns that only the means of cells need."""
    return runs.assign(
        net_energy_j_per_token=net_energy_j_per_token(runs),
        energy_delay_js=runs["energy_j"] * runs["duration_s"],
        dram_share=runs["dram_energy_j"] / runs["energy_j"],
        gco2e_per_1000_tasks=runs["gco2e"] / runs["tasks"] * 1000.0,
    )
