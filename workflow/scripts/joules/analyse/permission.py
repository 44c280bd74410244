"""The only place that decides whether the data permit to claim a difference in energy.

`joules.analyse.comparison.compare` asks it for every comparison, and writes `no claim` instead of
the word where it does not permit one.
"""

from collections import Counter

import pandas as pd

from joules.analyse.conventions import ALPHA
from joules.analyse.pairs import Pairs
from joules.analyse.power import LEAST_BLOCKS, can_differ, smallest_p
from joules.core.analysis import FAMILIES
from joules.core.energy import WALL
from joules.core.permission import Permission
from joules.core.values import EnergyChoice
from joules.core.wording import number_of

__all__ = ["Permission", "codes_in_words", "permission", "refusal_of_all", "refusal_of_pair"]

WORDS_OF_TIER = {"measured": "read from counters", "sampled": "integrated from power readings"}
BY_WALL = {
    "measured": "counted by a meter at the wall",
    "sampled": "integrated from the power that a meter at the wall shows",
}
FORCERUN = "measure the blocks again with snakemake --forcerun measure"
MOST_REASONS = 3  # that are said where every comparison is refused


def refusal_of_all(comparisons: pd.DataFrame, tier: str, emulated: bool = False) -> str:
    """Return why no comparison of the study may be claimed, in one sentence; else nothing.

    Energy is modelled or its tier is not stated, or its meter is `emulated`: it says itself that it
    is no real one; nothing is compared; or a null control finds a
    difference: its sign-flip test, after Holm's correction over the models. A control of few blocks
    cannot find one, and then permits nothing (`refusal_of_pair`). One control speaks for all
    models, because they share the machine, the instrument and the order of runs.
    """
    task = comparisons[comparisons["kind"] == "task"]
    control = comparisons[comparisons["kind"] == "control"]
    found = control[control["p_holm"].astype(float) < ALPHA]
    if tier == "estimated":
        return "Energy is modelled from the processor's load, not measured."
    if tier not in WORDS_OF_TIER:
        return "The energy tier is unstated, so nobody can tell whether energy was measured."
    if emulated:
        return "The meter is emulated: it says itself that it is no real one."
    if not len(task):
        return "There is no pair of runtimes to compare."
    if len(found):
        row = found.loc[found["p_holm"].astype(float).idxmin()]
        return (
            f"The null control of {row['model']}, runs of a runtime against second runs of the "
            f"same one, finds a difference where there is none: ratio {row['ratio']:.3f} (95 % "
            f"interval {row['ratio_low']:.3f} to {row['ratio_high']:.3f}), p {row['p_holm']:.2g} "
            "after Holm's correction. The order of runs or the harness is not fair."
        )
    return ""


def refusal_of_pair(pairs: Pairs, family: int, model: str, control: Pairs | None) -> str:
    """Return why this comparison may not be claimed, in one sentence; else nothing.

    `family` is the number of tests that are corrected together, `control` the null control of the
    `model`: it needs as many blocks as the comparison, or it could miss what the comparison finds.
    """
    blocks = len(pairs.blocks)
    kept = "; " + _left_out(pairs) if pairs.flagged else ""
    if not blocks and pairs.split:
        return f"No block has both of its runs from one session; {FORCERUN}."
    if not blocks and pairs.mixed:
        return (
            "No block has both of its runs from one machine and one version of the instrument; "
            f"{FORCERUN}."
        )
    if blocks < LEAST_BLOCKS:
        return (
            f"{number_of(blocks, 'block')} can show no difference: the smallest possible p is "
            f"{smallest_p(blocks):.3g}; at least {LEAST_BLOCKS} blocks are needed."
        )
    if not pairs.carries_claims:
        clean = f"Only {pairs.clean}" if pairs.clean else "None"
        be = "is" if pairs.clean == 1 else "are"
        return (
            f"{clean} of {number_of(blocks, 'block')} {be} without a run that broke a rule "
            f"({codes_in_words(pairs.codes)}); at least {LEAST_BLOCKS} are needed."
        )
    if not can_differ(blocks, family):
        return (
            f"{number_of(blocks, 'block')} can show no difference after Holm's correction over "
            f"{family} comparisons: the smallest possible p is {smallest_p(blocks) * family:.3g}"
            f"{kept}."
        )
    if control is None or not control.blocks:
        return f"{model} has no null control, so a harness that is not fair could not be seen."
    if not control.carries_claims:
        return (
            f"The null control of {model} rests on runs that broke a rule "
            f"({codes_in_words(control.codes)})."
        )
    if len(control.blocks) < max(blocks, LEAST_BLOCKS):
        return (
            f"The null control of {model} has {number_of(len(control.blocks), 'block')} and the "
            f"comparison {blocks}: it could miss what the comparison finds."
        )
    return ""


def _left_out(pairs: Pairs) -> str:
    return (
        f"{number_of(len(pairs.flagged), 'block')} with a run that broke a rule "
        f"({codes_in_words(pairs.codes)}) left out"
    )


def codes_in_words(codes: Counter[str]) -> str:
    """Return how many runs broke which rule, as `cpu_busy in 12 runs, settle in 1 run`."""
    return ", ".join(f"{code} in {number_of(codes[code], 'run')}" for code in sorted(codes))


def permission(
    comparisons: pd.DataFrame, tier: str, energy: EnergyChoice = "processor", emulated: bool = False
) -> Permission:
    """Return whether any difference in energy may be claimed, and why, from finished comparisons.

    `comparisons` is a table of `joules.analyse.comparison.compare`; `energy` is what the headline
    adds up, and `emulated` whether its meter is no real one.
    """
    task = comparisons[comparisons["kind"] == "task"]
    claimed = task[task["claimable"].astype(bool)]
    blocks = int(task["n_blocks"].max()) if len(task) else 0
    for_all = refusal_of_all(comparisons, tier, emulated)
    if for_all or not len(claimed):
        reasons = list(dict.fromkeys(task["no_claim_reason"]))
        further = len(reasons) - MOST_REASONS
        said = [*reasons[:MOST_REASONS], *([f"And {further} more."] if further > 0 else [])]
        return Permission(False, for_all or " ".join(said), smallest_p(blocks))
    blocks = int(claimed["n_blocks"].max())
    told = (BY_WALL if energy == WALL else WORDS_OF_TIER)[tier]
    reason = (
        f"Energy is {told}, no null control finds a difference, and {blocks} blocks "
        f"can show one (smallest possible p: {smallest_p(blocks):.3g})."
    )
    if len(claimed) < len(task):
        refused = len(task) - len(claimed)
        secondary = (~task["claimable"].astype(bool) & (task["family"] == FAMILIES[1])).sum()
        of_them = f" ({secondary} of them secondary)" if secondary else ""
        reason += f" {refused} of {len(task)} comparisons carry no claim{of_them}; each says why."
    return Permission(True, reason, smallest_p(blocks))
