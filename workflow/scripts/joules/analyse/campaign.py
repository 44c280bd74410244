"""What one archived campaign brings to a comparison of campaigns: its cells, ratios and protocols.

All of it comes from the campaign's own records and grades by the code that makes its article.
"""

import dataclasses
from pathlib import Path

import pandas as pd

from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.conventions import BETWEEN_RUNTIMES, METRIC
from joules.analyse.mixes import Mixing, machine_of, text_of
from joules.analyse.permission import permission
from joules.analyse.protocol import Protocol, protocol_of
from joules.analyse.tables import tabulate
from joules.core import paths
from joules.core.analysis import NO_CLAIM
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.reading import archived_study, runs_of
from joules.core.record import Record
from joules.core.stored import read_record
from joules.core.study import Study

# What of a machine stays when its system is renewed. Records do not name it any closer.
STAYS = ("processor", "architecture", "physical cores", "logical cores", "memory")
DEMONSTRATION = "It is a demonstration study."
SHOWN_OF_A_COMMIT = 9
COLUMNS_OF_CELLS = {
    "model": "model",
    "runtime": "runtime",
    "runtime_label": "runtime_label",
    "tier": "tier",
    "n": "n",
    f"mean_{METRIC}": METRIC,
    f"low_{METRIC}": f"low_{METRIC}",
    f"high_{METRIC}": f"high_{METRIC}",
    "passed": "passed",
    "graded": "graded",
    "pass_at_1": "pass_at_1",
}
COLUMNS_OF_RATIOS = [
    *("model", "runtime_a", "runtime_b", "kind", "family", "n_blocks", "ratio", "ratio_low"),
    *("ratio_high", "simultaneous_low", "simultaneous_high", "sd_log_ratio", "verdict"),
    *("claimable", "no_claim_reason", "tier"),
]


@dataclasses.dataclass(frozen=True)
class Campaign:
    """One archived campaign.

    Attributes:
        name: of its folder.
        study: that it is an execution of.
        machine: processor, architecture, cores and memory in words; machines whose words are equal
            cannot be told apart.
        machines: how many states of the machine its records name; more than one is a stated mix.
        system: name and release of the operating system.
        tier: of its energy.
        meter: what the energy of each component was read from.
        measured_on: day of the first run, YYYY-MM-DD.
        commit: of the workflow that measured, shortened; empty where it is not known.
        runs: how many, invalid ones among them.
        may_claim: whether any difference in energy may be claimed, and `reason` why.
        reason: see `may_claim`.
        cells: a row per model and arm of kind `task`, with the columns of `COLUMNS_OF_CELLS`.
        ratios: a row per model, pair of arms and kind, with `COLUMNS_OF_RATIOS`; that of a pair in
            alphabetical order, so that all campaigns have it the same way round.
        protocols: by the index of `ratios`.
    """

    name: str
    study: str
    machine: str
    machines: int
    system: str
    tier: str
    meter: str
    measured_on: str
    commit: str
    runs: int
    may_claim: bool
    reason: str
    cells: pd.DataFrame
    ratios: pd.DataFrame
    protocols: dict[int, Protocol]


def read_campaign(name: str, root: Path) -> Campaign:
    """Return the campaign in `root`/data/measurements/`name`, whose files were checked before.

    Raises UserError for files that are missing, unreadable or do not fit together.
    """
    study, runs = archived_study(name, root), runs_of(archived_study(name, root), root)
    folder = root / paths.archived_folder(name)
    records, grades = paths.records_folder(folder), paths.grades_folder(folder)
    graded = [paths.record_path(grades, run) for run in runs]
    mixing = Mixing(study.mixed_instruments, study.mixed_machines, study.mixed_runtimes)
    table = tabulate(
        [paths.record_path(records, run) for run in runs],
        [path for path in graded if path.exists()],
        [paths.agreement_file(folder, model) for model in study.models],
        study.carbon.grams_per_kwh,
        mixing,
        runs_only=True,
    ).runs
    first = read_record(paths.record_path(records, runs[0]))
    comparisons = compare(table, sorted(set(table["runtime"])), study.contrasts)
    allowed = permission(comparisons, first.instrument.tier)
    ratios = _ratios(comparisons, study.demonstration)
    of_cells = cells(table, metrics=[METRIC])
    of_cells = of_cells[of_cells["kind"] == "task"].rename(columns=COLUMNS_OF_CELLS)
    machine, commit = first.environment.before.machine, first.environment.before.machine.commit
    return Campaign(
        name=name,
        study=str(table["study"].iloc[0]),
        machine=text_of({key: machine_of(first)[key] for key in STAYS}),
        machines=int(table["machine"].nunique()),
        system=f"{machine.os}, kernel {machine.kernel}",
        tier=first.instrument.tier,
        meter=meter_words(first),
        measured_on=first.windows[0].start_wall[:10],
        commit=(commit.sha or "")[:SHOWN_OF_A_COMMIT] + (" with changes" if commit.dirty else ""),
        runs=len(table),
        may_claim=allowed.energy_difference and not study.demonstration,
        reason=f"{DEMONSTRATION} {allowed.reason}" if study.demonstration else allowed.reason,
        cells=of_cells[list(COLUMNS_OF_CELLS.values())].reset_index(drop=True),
        ratios=ratios,
        protocols=_protocols(ratios, table, records, study),
    )


def meter_words(record: Record) -> str:
    """Return what the energy of each component was read from, those without energy left out."""
    parts = record.instrument.components
    return ", ".join(
        f"{name} {part.source}"
        for name, part in parts.items()
        if part.source not in ("none", "off")
    )


def _ratios(comparisons: pd.DataFrame, demonstration: bool) -> pd.DataFrame:
    """Return the comparisons of arms that have a block; those of a demonstration claim nothing."""
    kept = comparisons["kind"].isin(BETWEEN_RUNTIMES) & (comparisons["n_blocks"] > 0)
    ratios = comparisons.loc[kept, COLUMNS_OF_RATIOS].reset_index(drop=True)
    if demonstration:
        said = DEMONSTRATION + " " + ratios["no_claim_reason"]
        ratios["no_claim_reason"] = said.str.strip()
        ratios["claimable"] = False
        ratios["verdict"] = NO_CLAIM
    return ratios


def _protocols(
    ratios: pd.DataFrame, table: pd.DataFrame, records: Path, study: Study
) -> dict[int, Protocol]:
    """Return the protocol of each ratio, from the first valid run of each of its arms.

    All records of an arm, model and kind share what a protocol holds, as `tabulate` saw to; but
    builds of a runtime may be mixed where the study states it, and are then all named.
    """
    valid = table[table["valid"]].sort_values("block")
    firsts = valid.drop_duplicates(["model", "runtime", "kind"])
    read: dict[tuple[str, str, str], Record] = {}
    for model, runtime, kind, block in firsts[["model", "runtime", "kind", "block"]].itertuples(
        index=False
    ):
        if kind in BETWEEN_RUNTIMES:
            path = paths.record_path(records, Run(model, runtime, kind, int(block)))
            read[model, runtime, kind] = read_record(path)
    builds = valid.groupby("runtime")["runtime_build"].unique()
    found: dict[int, Protocol] = {}
    for row in ratios.itertuples():
        a, b = (read.get((row.model, name, row.kind)) for name in (row.runtime_a, row.runtime_b))
        if a is None or b is None:
            raise UserError(
                f"{records.parent} has no valid run of {row.model} in a pair of {row.runtime_a} "
                f"and {row.runtime_b} that has blocks. Expected the campaign's own records. Import "
                "the archive again."
            )
        parts = protocol_of(a, b, study)
        for name in (row.runtime_a, row.runtime_b):
            if len(builds[name]) > 1:
                parts[f"builds of {name}"] = "; ".join(sorted(builds[name]))
        found[int(row.Index)] = parts
    return found
