"""What the doctor finds out about a study's models and runtimes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from joules import runtimes
from joules.commands.findings import Finding
from joules.commands.needs import Making, ModelState, makings, model_state
from joules.core import paths
from joules.core.catalogue import lookup
from joules.core.errors import UserError
from joules.core.files import read_json
from joules.core.inference import Settings
from joules.core.reading import LoadedStudy
from joules.core.stored import read_provided
from joules.core.study import Study
from joules.machine.download import for_people
from joules.measure.preparation import check_require, settings_of

ANY_LENGTH = 1  # of answers: what a runtime can hold does not depend on it


def subject(study: Study, made: Making) -> str:
    """Return what findings about a runtime as some arms have it are about, as `runtime ollama`.

    Where the study has it with several sets of options, the first of these arms is named too.
    """
    of_runtime = [each for each in makings(study) if each.runtime == made.runtime]
    return f"runtime {made.runtime}" + (f" ({made.arms[0]})" if len(of_runtime) > 1 else "")


def runtime(loaded: LoadedStudy, made: Making) -> Iterator[Finding]:
    """Yield whether a runtime's module loads, holds what is required, and what is to be made.

    It is asked once for all arms that have it with the same options.
    """
    what, name, options = subject(loaded.study, made), made.runtime, made.options
    if options is None:
        text = "`runtime_options` has no entry for it; expected at least its `version`. Add it."
        yield Finding("blocks", what, text)
        return
    try:
        module = runtimes.load(name)
        with tempfile.TemporaryDirectory() as folder:
            module({**options, "provided": {}}, Path(folder))
        for settings in _settings(loaded, made):
            check_require(name, loaded.study.require, settings)
    except UserError as error:
        yield Finding("blocks", what, str(error))
        return
    except ImportError as error:
        text = f"its module cannot be loaded ({error}). Expected it and all that it imports: "
        yield Finding("blocks", what, f"{text}correct joules/runtimes/{name}.py")
        return
    cannot = ", ".join(sorted(module.CANNOT_HOLD)) or "nothing"
    text = f"{module.LABEL} {options['version']}; settings that it cannot hold: {cannot}"
    if loaded.study.arms:
        text += f"; arms: {', '.join(made.arms)}"
    yield Finding("ok", what, text)
    if (loaded.root / f"requirements/runtime-{name}.txt").exists():
        own = loaded.root / ".venvs" / name / "bin/python"
        if own.exists():
            yield Finding("ok", what, f"own environment .venvs/{name}")
        else:
            text = f".venvs/{name} is missing. The study makes it where these options need it; "
            yield Finding("note", what, f"{text}or now: make runtime NAME={name}")
    yield provision(loaded, made)


def _settings(loaded: LoadedStudy, made: Making) -> Iterator[Settings]:
    """Yield what each of the arms is asked for, in every kind of run."""
    study, known = loaded.study, loaded.catalogue.models
    endless = all(model in known and known[model].never_ends for model in study.models)
    for arm in map(study.compared.__getitem__, made.arms):
        for kind in study.kinds:
            asked = arm.asked(study.settings)
            yield settings_of(asked, kind, ANY_LENGTH, endless, arm.as_installed)


def provision(loaded: LoadedStudy, made: Making) -> Finding:
    """Return whether a runtime was provided, or what is still to be built, fetched or checked."""
    what, file = subject(loaded.study, made), loaded.provided(made.arms[0])
    assert made.options is not None
    try:
        facts = read_provided(file) if file.exists() else None
        preview = runtimes.load(made.runtime).preview(made.options, facts)
    except UserError as error:
        return Finding("blocks", what, str(error))
    if facts is None:
        return Finding("note" if preview.possible else "blocks", what, preview.text)
    shown = file.relative_to(loaded.root)
    if preview.possible:
        return Finding("ok", what, f"provided ({shown})")
    return Finding("blocks", what, f"{preview.text}. Make it again: rm {shown}")


def model(loaded: LoadedStudy, name: str) -> tuple[Finding, ModelState | None]:
    """Return whether a model is known and there, and how much is still to be fetched."""
    what = f"model {name}"
    try:
        entry = lookup(loaded.catalogue, name)
    except UserError as error:
        return Finding("blocks", what, str(error)), None
    state = model_state(loaded, name, entry)
    if state.there:
        return Finding("ok", what, f"there, {for_people(state.file_bytes or 0)}"), state
    if entry.path is not None:
        if not (loaded.root / entry.path).is_file():
            where = "config/models.yaml or the study's `catalogue`"
            text = f"there is no file {entry.path}. Correct `path` in {where}"
            return Finding("blocks", what, text), state
        return Finding("ok", what, f"on this disk, {entry.path}"), state
    lock_file = loaded.root / paths.MODELS_LOCK
    pinned = lock_file.exists() and name in read_json(lock_file)
    if not (entry.sha256 or pinned or loaded.study.trust_on_first_use):
        text = "its sha256 is not known. Add it, or set `trust_on_first_use: true`"
        return Finding("blocks", what, text), state
    size = "size not known" if state.fetch_bytes is None else for_people(state.fetch_bytes)
    return Finding("note", what, f"to be fetched, {size}"), state
