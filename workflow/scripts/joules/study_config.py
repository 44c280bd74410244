"""A study's configuration as the workflow sees it, for tools that run outside Snakemake.

Merging and checking are Snakemake's own, so that a tool and the workflow cannot disagree.
"""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from joules.download import MARGIN_BYTES, MARGIN_SHARE
from joules.errors import UserError
from joules.models import REPOSITORY, lookup
from joules.schedule import Run, plan

UNPACKED_SHARE = 4.0  # of a release's archive, for it and what comes out of it


@dataclasses.dataclass(frozen=True)
class Study:
    """A configuration, checked, with the catalogue of models and the folder that it works in."""

    config: Mapping[str, Any]
    catalogue: Mapping[str, Any]
    root: Path

    @property
    def results(self) -> Path:
        """The folder of the study's results."""
        return self.root / "results" / self.config["study"]

    def runs(self, blocks: int | None = None) -> list[Run]:
        """Return all runs of the study, or of the study with another number of blocks."""
        keys = ("models", "runtimes", "kinds", "blocks", "seed")
        return plan(
            **{key: self.config[key] for key in keys} | ({"blocks": blocks} if blocks else {})
        )

    def model_file(self, model: str) -> Path:
        """Return where the checked file of a model lies once it was fetched."""
        return self.root / "resources/models" / f"{model}.gguf"

    def max_tokens(self, model: str) -> int:
        """Return the most tokens of a model's answers (as in common.smk)."""
        asked = self.config["settings"]["max_tokens"]
        if asked != "catalogue":
            return int(asked)
        style = lookup(self.catalogue, model)["prompt_style"]
        return int(self.catalogue["prompt_styles"][style]["max_tokens"])

    def record(self, run: Run) -> Path:
        """Return where the record of a run lies once it was measured."""
        return (
            self.results / "records" / run.model / run.runtime / run.kind / f"{run.repetition}.json"
        )

    def provided(self, runtime: str) -> Path:
        """Return where the facts of a runtime lie once it was provided (as in common.smk)."""
        options = self.config["runtime_options"][runtime]
        parts = [options["version"], options.get("from", "")]
        if options.get("binary"):
            parts.append(f"{crc32(options['binary'].encode()):08x}")
        name = "-".join(part for part in parts if part)
        return self.root / "resources/runtimes" / runtime / f"{name}.json"


def load_study(config_file: str | Path | None = None, root: Path = REPOSITORY) -> Study:
    """Return the study of `config_file` laid over config/config.yaml, or the default study.

    Mappings are merged, lists are replaced. Raises UserError for a file that is missing or cannot
    be read, a key or value that the schema does not allow, or a study that measures nothing.
    """
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    update_config(config, _read(root / "config/config.yaml"))
    if config_file:
        update_config(config, _read(Path(config_file)))
    named = str(config_file or "config/config.yaml")
    _validate(config, root / "workflow/schemas/config.schema.yaml", named)
    if config["measurements"]["source"] == "archive":
        raise UserError(
            f"{named} rebuilds an archived campaign (`measurements.source: archive`); nothing is "
            "measured. Expected a study that measures. Use `make review` for the archive."
        )
    catalogue = _read(root / "config/models.yaml")
    _validate(catalogue, root / "workflow/schemas/models.schema.yaml", "config/models.yaml")
    return Study(config, catalogue, root)


def _read(path: Path) -> dict[str, Any]:
    from snakemake.common.configfile import load_configfile
    from snakemake.exceptions import WorkflowError

    try:
        return dict(load_configfile(str(path)))
    except (WorkflowError, OSError, UnicodeDecodeError) as error:
        said = str(error).rstrip(".")
        raise UserError(
            f"{path} cannot be read as a configuration: {said}. Expected a YAML file with keys at "
            "top level, as config/study.yaml. Correct the name or the file."
        ) from error


def _validate(config: dict[str, Any], schema: Path, named: str) -> None:
    from snakemake.exceptions import WorkflowError
    from snakemake.utils import validate

    try:
        validate(config, str(schema))
    except WorkflowError as error:
        found = error.__context__  # the validator's own error; Snakemake's text holds the schema
        where = str(getattr(found, "json_path", "$")).removeprefix("$").lstrip(".")
        said = getattr(found, "message", error)
        raise UserError(
            f"{named} is not a valid configuration: {f'`{where}`: ' if where else ''}{said}. "
            f"Expected what {schema.name} allows. config/README.md explains every key."
        ) from error


@dataclasses.dataclass(frozen=True)
class ModelState:
    """Whether a model's file is there, and how much is still to be fetched.

    Attributes:
        name: of the model.
        there: the checked file is in resources/models/.
        file_bytes: size of the file; None where the catalogue does not say.
        fetch_bytes: still to be downloaded; 0 for a file on this disk, None where not known.
    """

    name: str
    there: bool
    file_bytes: int | None
    fetch_bytes: int | None


def model_state(study: Study, name: str, entry: Mapping[str, Any]) -> ModelState:
    """Return what is there of the file of a catalogue entry."""
    file = study.model_file(name)
    if file.exists():
        return ModelState(name, True, file.stat().st_size, 0)
    size = entry.get("bytes")
    if "path" in entry:
        source = study.root / entry["path"]
        return ModelState(name, False, source.stat().st_size if source.is_file() else size, 0)
    part = Path(f"{file}.part")
    come = part.stat().st_size if part.exists() else 0
    return ModelState(name, False, size, None if size is None else max(0, size - come))


def bytes_with_unknown(known: Sequence[int | None]) -> int:
    """Return the sum of sizes; a size that is not known counts as the largest that is."""
    largest = max((size for size in known if size is not None), default=0)
    return sum(largest if size is None else size for size in known)


def disk_needs(study: Study, states: Sequence[ModelState]) -> dict[str, int]:
    """Return the bytes that the study will write beside its records, by what they are.

    A runtime may copy the model in use into a store of its own; a release and what comes out of it
    lie side by side for a while; the margin is what a download leaves free.
    """
    models = bytes_with_unknown([state.fetch_bytes for state in states])
    return {
        "of models": models,
        "for a copy in use": max((state.file_bytes or 0 for state in states), default=0),
        "for runtimes": sum(int(each["bytes"] * UNPACKED_SHARE) for each in releases_of(study)),
        "to stay free": max(int(models * MARGIN_SHARE), MARGIN_BYTES),
    }


def releases_of(study: Study) -> list[Mapping[str, Any]]:
    """Return the releases that are still to be fetched for the study's runtimes."""
    options = {n: study.config["runtime_options"].get(n) for n in study.config["runtimes"]}
    wanted = [
        release_of(each) for n, each in options.items() if each and not study.provided(n).exists()
    ]
    return [release for release in wanted if release]


def release_of(options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the release that a runtime's options would fetch for this platform, if any."""
    releases = options.get(options.get("from") or "")
    if not isinstance(releases, Mapping):
        return None
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return releases.get(f"{system}-{machine}") or releases.get(system)
