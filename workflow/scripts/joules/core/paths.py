"""Where files lie. Every path of a study is made here; rules, scripts and commands share it.

`results` is the folder of a study's results: a Path, or a text such as `<results>`, which Snakemake
fills in. The answer is of the same sort. A name may be a wildcard such as `{model}`.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.plan import KINDS, Run

Place = TypeVar("Place", str, Path)

RUN = "{model}/{arm}/{kind}/{repetition}.json"  # below records/ and below grades/
MODELS_LOCK = "resources/models.lock.json"
CONFIGURATION = "config.yaml"  # in an archived campaign
CATALOGUE = "models.yaml"  # in an archived campaign: the entries of its models
REGISTRATION = "registration.json"
UNFINISHED = "unfinished.json"  # in the archive of an unfinished study
OF_WALL = ("wall_beside_processor",)  # figures that need a meter of the whole machine
OF_TASKS = ("energy_per_task",)  # figures of the energies of single tasks


def _below(folder: Place, name: str) -> Place:
    return folder / name if isinstance(folder, Path) else f"{folder}/{name}"


def results_folder(study_name: str) -> str:
    """Return the folder of a study's results."""
    return f"results/{study_name}"


def logs_folder(study_name: str) -> str:
    """Return the folder of a study's logs."""
    return f"logs/{study_name}"


def archived_folder(campaign: str) -> str:
    """Return the folder of an archived campaign, laid out as that of a study's results."""
    return f"data/measurements/{campaign}"


def records_folder(results: Place) -> Place:
    """Return the folder of all records; `record_path` names one."""
    return _below(results, "records")


def grades_folder(results: Place) -> Place:
    """Return the folder of all grades; `record_path` names one."""
    return _below(results, "grades")


def run_pattern(folder: Place) -> Place:
    """Return the place of any run below `folder`, with wildcards."""
    return _below(folder, RUN)


def record_path(folder: Place, run: Run) -> Place:
    """Return the place of a run below `folder`, which holds records or grades."""
    return _below(folder, RUN.format(**run._asdict()))


def run_of(path: str | Path) -> Run:
    """Return the run whose record or grade lies at `path`. Raises UserError for another path."""
    parts = Path(path).parts[-4:]
    if len(parts) == 4:
        model, arm, kind, file = parts
        number = re.fullmatch(r"([1-9][0-9]*)\.json", file)
        if number and kind in KINDS:
            return Run(model, arm, kind, int(number[1]))
    raise UserError(
        f"{path} is no record or grade. Expected a path that ends in {RUN}, with a kind of "
        f"{', '.join(KINDS)} and a repetition from 1. Leave other files out."
    )


def results_of(path: Place) -> Place:
    """Return the folder of results that a record or grade lies in."""
    run_of(path)
    return path.parents[4] if isinstance(path, Path) else str(Path(path).parents[4])


def invalid_attempt_path(record: Place, attempt: int) -> Place:
    """Return where an invalid attempt at a record lies: beside it."""
    name = f"{run_of(record).repetition}.invalid-{attempt}.json"
    if isinstance(record, Path):
        return record.with_name(name)
    return record.rpartition("/")[0] + f"/{name}"


def attempt_of(path: str | Path) -> int:
    """Return the number of an invalid attempt from its path. Raises UserError for another path."""
    found = re.fullmatch(r"[1-9][0-9]*\.invalid-([1-9][0-9]*)\.json", Path(path).name)
    if found is None:
        raise UserError(
            f"{path} is no invalid attempt. Expected a file {{repetition}}.invalid-{{number}}.json "
            "beside a record. Leave other files out."
        )
    return int(found[1])


def invalid_attempts(records: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the invalid attempts that lie beside each of some records, by their numbers.

    Each folder is listed once: one may hold thousands of records.
    """
    beside: dict[Path, list[Path]] = {record: [] for record in records}
    for folder in {record.parent for record in beside}:
        for found in folder.glob("*.invalid-*.json"):
            record = found.with_name(found.name.split(".")[0] + ".json")
            if record in beside:
                beside[record].append(found)
    return {record: sorted(found, key=attempt_of) for record, found in beside.items()}


def prompts_file(results: Place, model: str) -> Place:
    """Return the literal prompts of a model."""
    return _below(results, f"prompts/{model}.jsonl")


def warm_up_file(results: Place, model: str, arm: str) -> Place:
    """Return the proof that a model works on an arm."""
    return _below(results, f"warm_up/{model}/{arm}.json")


def results_of_warm_up(path: Path) -> Path:
    """Return the folder of results that a proof of `warm_up_file` lies in."""
    return path.parents[2]


def agreement_file(results: Place, model: str) -> Place:
    """Return the comparison of the arms for a model."""
    return _below(results, f"agreement/{model}.json")


def schedule_file(results: Place) -> Place:
    """Return the plan of runs, for people."""
    return _below(results, "schedule.csv")


def registration_file(results: Place) -> Place:
    """Return the plan as it was registered before the first run."""
    return _below(results, REGISTRATION)


def journal_folder(results: Place) -> Place:
    """Return the folder of finished records that no rule owns."""
    return _below(results, "journal")


def imported_folder(results: Place) -> Place:
    """Return the folder of imported records that wait to be taken in the place of a measurement."""
    return _below(results, "imported")


def imported_record(results: Place, run: Run) -> Place:
    """Return where the imported record of a run waits."""
    return record_path(records_folder(imported_folder(results)), run)


def imported_grade(results: Place, record_sha256: str) -> Place:
    """Return where the imported grade of a record waits, by the hash of the record's file."""
    return _below(grades_folder(imported_folder(results)), f"{record_sha256}.json")


def unfinished_archive_file(results: Place, campaign: str) -> Place:
    """Return the archive of a campaign of which runs are missing."""
    return _below(results, f"archive/{campaign}.unfinished.zip")


def slurm_folder(results: Place) -> Place:
    """Return what belongs to the jobs that measure a study: scripts, output, the node's name."""
    return _below(results, "slurm")


def stopped_file(results: Path) -> Path:
    """Return where it is said why a job ended between two blocks."""
    return slurm_folder(results) / "stopped.txt"


def node_file(results: Path) -> Path:
    """Return where the node is named that a campaign was begun on."""
    return slurm_folder(results) / "node.txt"


def summary_file(results: Place, model: str) -> Place:
    """Return the summary of a model's runs."""
    return _below(results, f"models/{model}/summary.csv")


def table_file(results: Place, name: str) -> Place:
    """Return a table of all runs; `name` has its suffix, as `runs.parquet`."""
    return _below(results, f"tables/{name}")


def statistics_file(results: Place, name: str) -> Place:
    """Return a table of statistics, as `cells`."""
    return _below(results, f"statistics/{name}.csv")


def claims_file(results: Place) -> Place:
    """Return every number of the article."""
    return _below(results, "claims.json")


def figure_file(results: Place, figure: str, suffix: str) -> Place:
    """Return a figure as `svg`, `pdf` or `png`."""
    return _below(results, f"figures/{figure}.{suffix}")


def article_file(results: Place, suffix: str) -> Place:
    """Return the article as `md`, `linked.md`, `html` or `pdf`."""
    return _below(results, f"article/article.{suffix}")


def archive_file(results: Place, campaign: str) -> Place:
    """Return the archive of a campaign."""
    return _below(results, f"archive/{campaign}.zip")


def model_file(model: str) -> str:
    """Return the checked file of a model, below the repository."""
    return f"resources/models/{model}.gguf"


SAID_IN_NAME = ("version", "from", "library", "binary")


def variant_of(options: Options) -> str:
    """Return the name of what a runtime's options make, another one for all other options.

    It has version, way, library, and sums of a binary of one's own and of all further options that
    are not empty.
    """
    parts = [options["version"], options.get("from", ""), options.get("library", "")]
    if options.get("binary"):
        parts.append(f"{crc32(options['binary'].encode()):08x}")
    further = {name: each for name, each in options.items() if each and name not in SAID_IN_NAME}
    if further:
        parts.append(f"{crc32(json.dumps(further, sort_keys=True).encode()):08x}")
    return "-".join(part for part in parts if part)


def provided_file(runtime: str, options: Options) -> str:
    """Return the facts of a runtime as its options have it, below the repository."""
    return provided_pattern(runtime, variant_of(options))


def provided_pattern(runtime: str = "{runtime}", variant: str = "{variant}") -> str:
    """Return the facts of a runtime in a variant, or of any, with wildcards."""
    return f"resources/runtimes/{runtime}/{variant}.json"


def runtime_names(package: Path) -> list[str]:
    """Return the names of all runtimes: those of their modules in the package's folder."""
    return _modules(package / "runtimes")


def figure_names(package: Path) -> list[str]:
    """Return the names of all figures: those of their modules in the package's folder."""
    return _modules(package / "draw/figures")


def figures_of(package: Path, has_wall: bool, is_by_wall: bool) -> list[str]:
    """Return the names of a study's figures.

    Those of the whole machine need a meter of it (`has_wall`). Where that is the headline
    (`is_by_wall`), there are none of single tasks: a plug knows nothing of them.
    """
    return [
        name
        for name in figure_names(package)
        if (has_wall or name not in OF_WALL) and not (is_by_wall and name in OF_TASKS)
    ]


def _modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
