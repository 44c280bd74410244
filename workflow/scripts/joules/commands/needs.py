"""What a study still has to fetch, and the disk space that it needs."""

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from joules import runtimes
from joules.core.catalogue import ModelEntry, lookup
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.reading import LoadedStudy
from joules.core.run_parameters import options_of
from joules.core.study import Study
from joules.machine.download import MARGIN_BYTES, MARGIN_SHARE

UNPACKED_SHARE = 4.0  # of a release's archive, for it and what comes out of it


@dataclasses.dataclass(frozen=True)
class Making:
    """A runtime as some arms of a study have it: it is made once, and checked once.

    Attributes:
        runtime: name of its module.
        options: of these arms; None where the study has none for the runtime.
        arms: their names, at least one, in the order of the study.
    """

    runtime: str
    options: Options | None
    arms: tuple[str, ...]


def makings(study: Study) -> list[Making]:
    """Return each runtime with each set of options that the study has it with, once."""
    found: list[Making] = []
    for name, arm in study.compared.items():
        options = options_of(study, name) if arm.runtime in study.runtime_options else None
        for place, made in enumerate(found):
            if (made.runtime, made.options) == (arm.runtime, options):
                found[place] = dataclasses.replace(made, arms=(*made.arms, name))
                break
        else:
            found.append(Making(arm.runtime, options, (name,)))
    return found


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


def model_state(loaded: LoadedStudy, name: str, entry: ModelEntry) -> ModelState:
    """Return what is there of the file of a catalogue entry."""
    file = loaded.model_file(name)
    if file.exists():
        return ModelState(name, True, file.stat().st_size, 0)
    if entry.path is not None:
        source = loaded.root / entry.path
        return ModelState(
            name, False, source.stat().st_size if source.is_file() else entry.bytes, 0
        )
    part = Path(f"{file}.part")
    come = part.stat().st_size if part.exists() else 0
    left = None if entry.bytes is None else max(0, entry.bytes - come)
    return ModelState(name, False, entry.bytes, left)


def model_states(loaded: LoadedStudy) -> list[ModelState]:
    """Return what is there of each of a study's models. Raises UserError for an unknown one."""
    return [model_state(loaded, n, lookup(loaded.catalogue, n)) for n in loaded.study.models]


def bytes_with_unknown(known: Sequence[int | None]) -> int:
    """Return the sum of sizes; a size that is not known counts as the largest that is."""
    largest = max((size for size in known if size is not None), default=0)
    return sum(largest if size is None else size for size in known)


def disk_needs(loaded: LoadedStudy, states: Sequence[ModelState]) -> dict[str, int]:
    """Return the bytes that the study will write beside its records, by what they are.

    A runtime may copy the model in use into a store of its own; a release and what comes out of it
    lie side by side for a while; the margin is what a download leaves free.
    """
    models = bytes_with_unknown([state.fetch_bytes for state in states])
    return {
        "of models": models,
        "for a copy in use": max((state.file_bytes or 0 for state in states), default=0),
        "for runtimes": int(UNPACKED_SHARE * runtime_fetch_bytes(loaded)),
        "to stay free": max(int(models * MARGIN_SHARE), MARGIN_BYTES),
    }


def runtime_fetch_bytes(loaded: LoadedStudy) -> int:
    """Return how much is still to be fetched for the study's runtimes.

    One that cannot be asked counts nothing: that it cannot is `make doctor`'s to say.
    """
    total = 0
    for made in makings(loaded.study):
        with contextlib.suppress(UserError, ImportError):
            if made.options is not None and not loaded.provided(made.arms[0]).exists():
                total += runtimes.load(made.runtime).preview(made.options, None).fetch_bytes
    return total


@dataclasses.dataclass(frozen=True)
class Disk:
    """The disk that a folder lies on, or will.

    Attributes:
        folder: the nearest one that is there already.
        number: of the disk; two folders on one disk have the same.
        free_bytes: what may still be written.
    """

    folder: Path
    number: int
    free_bytes: int


def disk_of(folder: Path) -> Disk:
    """Return the disk of a folder that need not be there yet."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return Disk(there, there.stat().st_dev, shutil.disk_usage(there).free)
