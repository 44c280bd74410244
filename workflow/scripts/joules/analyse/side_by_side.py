"""Campaigns side by side: which ratios are of one protocol, and what they say together.

Joules of different machines are never averaged: a ratio is, where enough campaigns on different
machines have it under one protocol and may claim it.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from joules.analyse.campaign import Campaign
from joules.analyse.conventions import Row
from joules.analyse.estimates import numeric
from joules.analyse.pooling import LEAST_MACHINES, pooled
from joules.analyse.protocol import Protocol, differing

CONTRAST = ["model", "runtime_a", "runtime_b", "kind"]
FACTS = ("study", "machine", "system", "tier", "meter", "measured_on", "commit", "runs")
MEAN_COLUMNS = [
    *CONTRAST,
    *("protocol", "campaigns", "machines", "ratio", "ratio_low", "ratio_high", "prediction_low"),
    *("prediction_high", "tau", "i_squared", "approximate", "no_mean_reason"),
]


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """The tables of a comparison of campaigns.

    Attributes:
        campaigns: a row per campaign, with what it was measured on and what it may claim.
        energy: a row per campaign, hence machine, model and arm: J/token, tier, meter, pass@1.
        ratios: a row per campaign, contrast and kind; `protocol` numbers the protocols of a
            contrast from 1, the most common first; `left_out` says why it is in no mean.
        means: a row per contrast, kind and protocol: the random-effects mean, or why there is none.
        differences: a row per contrast, kind, part of the protocol and protocol: its value there.
    """

    campaigns: pd.DataFrame
    energy: pd.DataFrame
    ratios: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame


def side_by_side(campaigns: Sequence[Campaign]) -> SideBySide:
    """Lay campaigns of different names side by side; their order does not matter."""
    ordered = sorted(campaigns, key=lambda campaign: campaign.name)
    by_name = {campaign.name: campaign for campaign in ordered}
    facts = [
        {"campaign": each.name}
        | {name: getattr(each, name) for name in FACTS}
        | {"may_claim": each.may_claim, "reason": each.reason}
        for each in ordered
    ]
    energy = [
        each.cells.assign(campaign=each.name, machine=each.machine, meter=each.meter)
        for each in ordered
    ]
    joined = pd.concat(
        [each.ratios.assign(campaign=each.name, place=each.ratios.index) for each in ordered],
        ignore_index=True,
    )
    joined = joined.sort_values([*CONTRAST, "campaign"], ignore_index=True)
    means, differences, parts = [], [], []
    for contrast, group in joined.groupby(CONTRAST, sort=True):
        protocols = [by_name[row.campaign].protocols[row.place] for row in group.itertuples()]
        numbers = numbered(protocols)
        group = group.assign(protocol=numbers)
        group["left_out"] = ""
        for number, own in group.groupby("protocol"):
            group.loc[own.index, "left_out"] = reasons_left_out(own, by_name)
            means.append(
                dict(zip(CONTRAST, contrast, strict=True))
                | {"protocol": number}
                | _mean(group.loc[own.index])
            )
        parts.append(group)
        differences += _differences(contrast, protocols, numbers, list(group["campaign"]))
    ratios = pd.concat(parts, ignore_index=True) if parts else joined
    first = ["campaign", *CONTRAST, *(["protocol", "left_out"] if parts else [])]
    rest = [name for name in ratios.columns if name not in (*first, "place")]
    of_energy = pd.concat(energy, ignore_index=True)
    of_energy = of_energy.sort_values(["model", "runtime", "campaign"], ignore_index=True)
    named = ["campaign", "machine"]
    columns = [*named, *(name for name in of_energy.columns if name not in named)]
    return SideBySide(
        campaigns=pd.DataFrame(facts),
        energy=of_energy[columns],
        ratios=ratios[[*first, *rest]],
        means=numeric(pd.DataFrame(means, columns=MEAN_COLUMNS)),
        differences=pd.DataFrame(
            differences, columns=[*CONTRAST, "part", "protocol", "value", "campaigns"]
        ),
    )


def numbered(protocols: Sequence[Protocol]) -> list[int]:
    """Return the number of each protocol, from 1: the most common first, then the first seen."""
    keys = [tuple(sorted(protocol.items())) for protocol in protocols]
    order = sorted(dict.fromkeys(keys), key=lambda key: (-keys.count(key), keys.index(key)))
    return [order.index(key) + 1 for key in keys]


def reasons_left_out(own: pd.DataFrame, campaigns: dict[str, Campaign]) -> list[str]:
    """Return why each ratio of one contrast and protocol is in no mean; nothing where it is in it.

    It decides without a look at the ratio. Machines that cannot be told apart count once: that of
    the campaign with the most blocks, then of the first name.
    """
    found: list[str] = []
    kept: dict[str, str] = {}  # by machine, the campaign that stands for it
    for row in own.sort_values(["n_blocks", "campaign"], ascending=[False, True]).itertuples():
        if row.claimable and row.sd_log_ratio > 0 and campaigns[row.campaign].machines == 1:
            kept.setdefault(campaigns[row.campaign].machine, row.campaign)
    for row in own.itertuples():
        campaign = campaigns[row.campaign]
        stands = kept.get(campaign.machine)
        if not row.claimable:
            found.append("no claim")
        elif campaign.machines > 1:
            found.append(f"measured on {campaign.machines} states of a machine")
        elif not row.sd_log_ratio > 0:
            found.append("its blocks do not differ, so that its weight is not known")
        elif stands != row.campaign:
            found.append(f"its machine cannot be told from that of {stands}")
        else:
            found.append("")
    return found


def _mean(own: pd.DataFrame) -> Row:
    """Return the random-effects mean of the ratios of one contrast and protocol."""
    used = own[own["left_out"] == ""]
    row: Row = {"campaigns": len(own), "machines": len(used), "approximate": ""}
    if len(used) < LEAST_MACHINES:
        row["no_mean_reason"] = (
            f"no mean: {len(used)} of {len(own)} may be averaged, {LEAST_MACHINES} are needed"
        )
        return row
    found = pooled(np.log(used["ratio"]), used["sd_log_ratio"] ** 2 / used["n_blocks"])
    return row | {
        "ratio": found.ratio,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "prediction_low": found.prediction_low,
        "prediction_high": found.prediction_high,
        "tau": found.tau,
        "i_squared": found.i_squared,
        "approximate": "yes" if found.approximate else "no",
        "no_mean_reason": "",
    }


def _differences(
    contrast: tuple[str, ...],
    protocols: Sequence[Protocol],
    numbers: Sequence[int],
    names: Sequence[str],
) -> list[Row]:
    """Return what the protocols of a contrast differ in, each with the campaigns that have it."""
    each = dict(sorted(zip(numbers, protocols, strict=True), key=lambda pair: pair[0]))
    having = {
        number: ", ".join(name for _, name in found)
        for number, found in itertools.groupby(
            sorted(zip(numbers, names, strict=True)), key=lambda pair: pair[0]
        )
    }
    rows: list[Row] = []
    for part, values in differing(list(each.values())).items():
        for number, value in zip(each, values, strict=True):
            told: Row = {"part": part, "protocol": number, "value": value}
            named: Row = dict(zip(CONTRAST, contrast, strict=True))
            rows.append(named | told | {"campaigns": having[number]})
    return rows
