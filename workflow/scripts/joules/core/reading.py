"""Configurations as they lie on the disk: a study, the catalogue, an archived campaign."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import yaml

from joules.core import paths, stored
from joules.core.catalogue import Catalogue, catalogue_from
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.places import REPOSITORY
from joules.core.plan import Run, check_fits, from_csv, plan_of
from joules.core.run_parameters import max_tokens_of, options_of
from joules.core.study import Study, study_from, without_retired

DEFAULT = "config/config.yaml"
CATALOGUE = "config/models.yaml"
RUNTIME_OPTIONS = "config/runtime_options.yaml"


def read_configuration(path: Path) -> Mapping[str, object]:
    """Return a YAML file with keys at top level. Raises UserError for any other file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        said = "it has no keys at top level"
    except OSError as error:
        content, said = None, str(error.strerror)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        content, said = None, f"it is not YAML ({' '.join(str(error).split())})"
    if isinstance(content, Mapping):
        return content
    raise UserError(
        f"{path} cannot be read as a configuration: {said}. Expected a YAML file with keys at top "
        "level, as config/study.yaml. Correct the name or the file."
    )


def read_catalogue(root: Path = REPOSITORY, own: Mapping[str, Options] | None = None) -> Catalogue:
    """Return the catalogue of models of a checkout, with a study's own `catalogue` laid over it."""
    return catalogue_from(read_configuration(root / CATALOGUE), own)


def study_of(
    config: Mapping[str, object], root: Path = REPOSITORY, named: str = "The configuration"
) -> Study:
    """Return the study of a plain configuration, with the pinned options of all runtimes.

    Where it asks for an archived campaign, return that campaign's own study. `named` is what errors
    call the configuration.
    """
    asked = config.get("measurements")
    if isinstance(asked, Mapping) and asked.get("source") == "archive":
        return archived_study(str(asked.get("campaign") or ""), root)
    return study_from(config, read_configuration(root / RUNTIME_OPTIONS), named)


def archived_study(campaign: str, root: Path = REPOSITORY) -> Study:
    """Return the study of an archived campaign, named after it.

    All else is from the configuration that lies in the archive: other models or blocks than were
    measured would fail, or analyse half. Raises UserError for a campaign that is not there.
    """
    file = root / paths.archived_folder(campaign) / paths.CONFIGURATION
    known = (root / paths.archived_folder("")).glob(f"*/{paths.CONFIGURATION}")
    names = sorted(each.parent.name for each in known)
    if campaign not in names:
        raise UserError(
            f"measurements.campaign is {campaign!r}; {file} does not exist. Expected one of: "
            f"{', '.join(names) or 'none is archived'}. "
            "Correct the name, or set measurements.source to `measure`."
        )
    refuse_unfinished(file.parent)
    changed = {
        "study": f"archive/{campaign}",
        "measurements": {"source": "archive", "campaign": campaign},
    }
    archived = without_retired(read_configuration(file))
    return study_from({**archived, **changed}, {}, str(file))


def refuse_unfinished(folder: Path) -> None:
    """Raise UserError for the archive of an unfinished study, with what it lacks."""
    file = folder / paths.UNFINISHED
    if not file.exists():
        return
    unfinished = stored.read_unfinished(file)
    first = ", ".join(unfinished.missing[:3])
    more = ", and more" if len(unfinished.missing) > 3 else ""
    raise UserError(
        f"{folder} is the archive of an unfinished study: {unfinished.told()} ({first}{more}; "
        f"{file.name} names all). Expected a finished one. Give its zip file to `make import`, "
        "which puts the runs back into results/, and measure the rest."
    )


def archived_catalogue(study: Study, root: Path = REPOSITORY) -> Catalogue:
    """Return the catalogue that an archived campaign holds; an empty one where it holds none."""
    file = root / paths.archived_folder(study.campaign) / paths.CATALOGUE
    return catalogue_from(read_configuration(file)) if file.exists() else Catalogue(models={})


def runs_of(study: Study, root: Path = REPOSITORY) -> list[Run]:
    """Return the runs of a study in their planned order: by its plan, or by its archived schedule.

    A campaign may have been measured by another plan than today's. Raises UserError where its
    schedule is missing, is none, or does not fit the campaign's configuration.
    """
    if not study.archived:
        return plan_of(study)
    file = root / paths.schedule_file(paths.archived_folder(study.campaign))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read ({getattr(error, 'strerror', None) or 'it is no text'}). "
            "Expected the schedule of the archived campaign, which says what its runs are. Import "
            "the archive again."
        ) from error
    runs = from_csv(text, str(file))
    check_fits(runs, study, str(file))
    return runs


@dataclasses.dataclass(frozen=True)
class LoadedStudy:
    """A study, checked, with the catalogue of models and the folder that it works in."""

    study: Study
    catalogue: Catalogue
    root: Path

    @property
    def results(self) -> Path:
        """The folder of the study's results."""
        return self.root / paths.results_folder(self.study.study)

    def runs(self, blocks: int | None = None) -> list[Run]:
        """Return all runs of the study, or of the study with another number of blocks."""
        return plan_of(self.study, blocks)

    def max_tokens(self, model: str) -> int:
        """Return the most tokens of a model's answers."""
        return max_tokens_of(self.study, self.catalogue, model)

    def record(self, run: Run) -> Path:
        """Return where the record of a run lies once it was measured."""
        return paths.record_path(paths.records_folder(self.results), run)

    def model_file(self, model: str) -> Path:
        """Return where the checked file of a model lies once it was fetched."""
        return self.root / paths.model_file(model)

    def provided(self, arm: str) -> Path:
        """Return where the facts of an arm's runtime lie once it was provided."""
        runtime = self.study.compared[arm].runtime
        return self.root / paths.provided_file(runtime, options_of(self.study, arm))


def load_study(config_file: str | Path | None = None, root: Path = REPOSITORY) -> LoadedStudy:
    """Return the study of `config_file`, or the demonstration study, for a command that measures.

    Raises UserError for a file that is missing or cannot be read, a key or value that is not
    allowed, or a study that measures nothing.
    """
    file = Path(config_file) if config_file else root / DEFAULT
    config = read_configuration(file)
    asked = config.get("measurements")
    if isinstance(asked, Mapping) and asked.get("source") == "archive":
        raise UserError(
            f"{file} rebuilds an archived campaign (`measurements.source: archive`); nothing is "
            "measured. Expected a study that measures. Use `make review` for the archive."
        )
    study = study_of(config, root, str(file))
    return LoadedStudy(study, read_catalogue(root, study.catalogue), root)
