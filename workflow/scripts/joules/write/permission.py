"""The only place that decides whether the data permit to claim a difference in energy."""

import numpy as np
import pandas as pd

from joules.analyse.conventions import ALPHA
from joules.analyse.power import LEAST_BLOCKS, smallest_p
from joules.core.wording import number_of
from joules.write.claims_file import Permission

# Where the null control's ratio should lie. CodeCarbon's ratios err by 3 % (1 SD) against a wall
# meter; a control runs on one meter and one runtime, so it has to do better than that.
CONTROL_LOW, CONTROL_HIGH = 0.98, 1.02


def permission(comparisons: pd.DataFrame, tier: str) -> Permission:
    """Return whether a difference in energy may be claimed, and the reason in one sentence.

    It may not when energy is modelled or its tier is not stated; without a null control of every
    model, or when the ratio of one leaves 0.98 to 1.02; or when the blocks are too few for any p
    below 0.05. The control is judged by its ratio, not by its interval: a ratio outside says
    either that the machine is not steady or that the study is too noisy for small differences,
    and a wide interval must not excuse it. One control speaks for the whole study, because all
    its models share the machine and the instrument.
    """
    task = comparisons[comparisons["kind"] == "task"]
    control = comparisons[comparisons["kind"] == "control"]
    blocks = int(task["n_blocks"].max()) if len(task) else 0
    family = int(task["p_value"].notna().sum())
    seen = control[control["ratio_low"].notna()]
    uncontrolled = sorted(set(task["model"]) - set(seen["model"]))
    biased = seen[(seen["ratio"] > CONTROL_HIGH) | (seen["ratio"] < CONTROL_LOW)]
    least = smallest_p(blocks)
    if tier == "estimated":
        reason = "Energy is modelled from the processor's load, not measured."
    elif tier == "unstated":
        reason = "The energy tier is unstated, so nobody can tell whether energy was measured."
    elif not len(task):
        reason = "There is no pair of runtimes to compare."
    elif not blocks and (task["split_blocks"].fillna("") != "").any():
        reason = (
            "No block has both of its runs from one session; measure the blocks again with "
            "snakemake --forcerun measure."
        )
    elif not blocks and (task["mixed_blocks"].fillna("") != "").any():
        reason = (
            "No block has both of its runs from one machine and one version of the instrument; "
            "measure the blocks again with snakemake --forcerun measure."
        )
    elif least >= ALPHA:
        reason = (
            f"{number_of(blocks, 'block')} can show no difference: the smallest possible p is "
            f"{least:.3g}; at least {LEAST_BLOCKS} blocks are needed."
        )
    elif not can_differ(blocks, family):
        reason = (
            f"{blocks} blocks can show no difference after Holm's correction over {family} pairs: "
            f"the smallest possible p is {least * family:.3g}."
        )
    elif uncontrolled:
        reason = (
            f"There is no null control with two blocks or more for {', '.join(uncontrolled)}, so "
            "a bias could not be seen."
        )
    elif len(biased):
        off = np.log(biased["ratio"].astype(float)).abs()
        worst = biased.loc[off.idxmax()]
        reason = (
            f"The null control of {worst['model']}, one runtime against itself, leaves "
            f"{CONTROL_LOW} to {CONTROL_HIGH}: ratio {worst['ratio']:.3f} (95 % interval "
            f"{worst['ratio_low']:.3f} to {worst['ratio_high']:.3f})."
        )
    else:
        words = {"measured": "read from counters", "sampled": "integrated from power readings"}
        reason = (
            f"Energy is {words[tier]}, the null control shows no bias, and {blocks} blocks "
            f"can show a difference (smallest possible p: {least:.3g})."
        )
        return Permission(True, reason, least)
    return Permission(False, reason, least)


def can_differ(blocks: int, family: int) -> bool:
    """Return whether a pair of so many blocks can be different after Holm over `family` pairs."""
    return smallest_p(blocks) * max(1, family) < ALPHA
