"""The protocol of a comparison: what two campaigns must share before their ratios are averaged.

Machines differ, and with them the builds of a runtime: that is what campaigns are laid side by side
for. All else that a ratio hangs on is the protocol, told part by part, so that what differs can be
named.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from joules.core.record import Record
from joules.core.study import Study

Protocol = Mapping[str, str]  # by the names of its parts, in words

SHOWN_OF_A_HASH = 12
OWN_CHOICE, NOT_STATED = "its own choice", "not stated"
OF_A_BUILD = ("from", "llama_cpp_commit")  # of a runtime's facts: how it was made, and of what
SAID_OTHERWISE = ("version", *OF_A_BUILD)  # options that the runtime's facts tell
CONDITIONS = ("windows", "settle", "limits")  # of a study: what lies around the tasks, what counts
NO_PART = ("limits.wait_s",)  # how long a busy machine is waited for changes no run


def protocol_of(a: Record, b: Record, study: Study) -> dict[str, str]:
    """Return the protocol of the comparison of two arms, from a run of each on the same model.

    The runs are of one study, whose records share what `joules.analyse.consistency` holds them to.
    """
    prompts = sorted((task.task_id, task.prompt_token_ids_sha256) for task in a.tasks)
    sha256 = hashlib.sha256(repr(prompts).encode()).hexdigest()[:SHOWN_OF_A_HASH]
    parts = {
        "record": f"version {a.schema}",
        "model file": f"sha256 {a.model.sha256[:SHOWN_OF_A_HASH]}",
        "prompts": f"{a.protocol}, {len(prompts)} problems, sha256 {sha256}",
        "energy of the headline": a.instrument.headline,
    }
    sides = {cell_name(record): record for record in (a, b)}
    for name, record in sides.items():
        parts[f"runtime of {name}"] = runtime_words(record)
        for key, value in _options(record, study).items():
            parts[f"option {key} of {name}"] = _text(value)
    settings = {name: _settings(record, study) for name, record in sides.items()}
    for key in next(iter(settings.values())):
        parts[f"setting {key}"] = _of_both({name: each[key] for name, each in settings.items()})
    for group in CONDITIONS:
        for key, value in msgspec.to_builtins(getattr(study, group)).items():
            parts[f"{group}.{key}"] = _text(value)
    return {name: value for name, value in parts.items() if name not in NO_PART}


def cell_name(record: Record) -> str:
    """Return the name of what a record is a run of, as tables have it in the column `runtime`."""
    return record.arm_name


def runtime_words(record: Record) -> str:
    """Return a runtime with its version and, where it is told, how it was made and of what."""
    facts = record.runtime.facts
    made = [
        f"{name.replace('llama_cpp', 'llama.cpp').replace('_', ' ')} {facts[name]}"
        for name in OF_A_BUILD
        if facts.get(name)
    ]
    return ", ".join(
        [f"{record.runtime.name} {facts.get('version', 'of no stated version')}", *made]
    )


def _options(record: Record, study: Study) -> dict[str, object]:
    """Return what the options of the runtime say beside its version, and how it is had."""
    own = record.arm.options if record.arm else {}
    options = {**study.runtime_options.get(record.runtime.name, {}), **own}
    return {
        name: value
        for name, value in options.items()
        if name not in SAID_OTHERWISE
        and not isinstance(value, Mapping)
        and value not in ("", None, [])
    }


def _settings(record: Record, study: Study) -> dict[str, str]:
    """Return the settings of a run; the threads as the study asked for them.

    `auto` is one rule on every machine, though it gives another number on each.
    """
    chosen = record.settings.threads is None  # then the runtime chose all that it could
    unstated = OWN_CHOICE if chosen else NOT_STATED
    held = dataclasses.asdict(record.settings)
    values = {name: unstated if value is None else _text(value) for name, value in held.items()}
    asked = study.compared[record.arm_name].asked(study.settings)
    return values if chosen else values | {"threads": _text(asked.threads)}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_both(values: Mapping[str, str]) -> str:
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def differing(protocols: Sequence[Protocol]) -> dict[str, list[str]]:
    """Return the parts in which protocols differ, with the value of each of them in their order.

    A part that only some have differs: nobody knows it of the others.
    """
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    found = {name: [each.get(name, NOT_STATED) for each in protocols] for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}
