"""One reader and one writer for each kind of stored file, and the JSON schema of each.

A file is validated when it is read. One that does not hold what its type says is a UserError that
names the file, the place inside it, what was seen, what was expected and what to do.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from joules.core import prompts_file
from joules.core.errors import UserError
from joules.core.files import to_json, write_atomic
from joules.core.grade_file import Grade
from joules.core.inference import Facts, Scalar
from joules.core.prompts_file import PromptRow, PromptsFile, PromptsHeader
from joules.core.record import Attempt, Position, Record
from joules.core.registration import Registered, Registration, sha256_of_part
from joules.core.unfinished_file import Unfinished
from joules.core.warm_up_files import Agreement, WarmUp

T = TypeVar("T")

KEEP = "Restore it from the campaign's archive or from the folder `journal`; never mend it by hand"
LONGEST_SEEN = 60  # characters of a wrong value that a message shows


class MarkOfRun(msgspec.Struct, frozen=True):
    """Of a record, its place and the registration that it carries: the rest is not decoded."""

    position: Position
    registration: Registered | None = None


class RegistrationAsWritten(msgspec.Struct, frozen=True):
    """Of a registration, its mark and its parts as they stand there, whatever types they had."""

    registered: Registered
    plan: dict[str, msgspec.Raw]


class ProvidedFacts(msgspec.Struct, frozen=True):
    """What a runtime's `provide` made or checked: its version, and facts of its own beside it."""

    version: Annotated[str, Meta(description="Of the runtime.")]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of stored file: its name in a sentence, the types of its parts, what mends it.

    A file has one part, or a part on each line.
    """

    title: str
    name: str
    parts: tuple[type, ...]
    remedy: str


def _made_by(rule: str) -> str:
    return f"Restore it from where it came, or delete it and let rule `{rule}` make it again"


KINDS = {
    "record": Kind("The record of one run", "record", (Record,), KEEP),
    "attempt": Kind("An invalid attempt at a run", "record", (Attempt,), KEEP),
    "grade": Kind("The grade of one run", "grade", (Grade,), _made_by("grade")),
    "prompts": Kind(
        "A line of a model's prompts file",
        "line of a prompts file",
        (PromptsHeader, PromptRow),
        _made_by("write_prompts"),
    ),
    "registration": Kind(
        "The plan of a study as it was registered before its first run",
        "registration",
        (Registration,),
        "Restore it from the campaign's archive, or move it away and run `make register`, which "
        "writes it again where the plan is still that of the records",
    ),
    "unfinished": Kind(
        "What an archive lacks of its study",
        "list of what is missing",
        (Unfinished,),
        "Import the archive again",
    ),
    "agreement": Kind("Whether the runtimes agree", "agreement", (Agreement,), _made_by("agree")),
    "warm_up": Kind("One model on one runtime", "warm-up", (WarmUp,), _made_by("warm_up")),
    "provided_facts": Kind(
        "What is known of a runtime that was provided",
        "runtime's facts",
        (ProvidedFacts,),
        _made_by("provide_runtime"),
    ),
}


def read_record(path: str | Path) -> Record:
    """Return the record, or the invalid attempt, that a file holds. Raises UserError."""
    return _read(path, Record, "record")


def write_record(path: str | Path, record: Record) -> None:
    """Write a record or an invalid attempt, whole or not at all."""
    _write(path, record)


def read_mark(path: str | Path) -> MarkOfRun:
    """Return the mark that a record, or an invalid attempt, carries. Raises UserError."""
    return _read(path, MarkOfRun, "record")


def read_registered(path: str | Path) -> Registered:
    """Return the mark of a registration. Raises UserError, also where a part is not as hashed."""
    found = _read(path, RegistrationAsWritten, "registration")
    hashed = {name: sha256_of_part(msgspec.json.decode(part)) for name, part in found.plan.items()}
    mark = found.registered
    changed = [
        name for name in sorted({*hashed, *mark.parts}) if hashed.get(name) != mark.parts.get(name)
    ]
    if changed or sha256_of_part(mark.parts) != mark.sha256:
        raise UserError(
            f"{path} has been changed since it was written: {', '.join(changed) or 'its hashes'}. "
            f"Expected the plan that its hashes are of. {KINDS['registration'].remedy}."
        )
    return mark


def write_registration(path: str | Path, registration: Registration) -> None:
    """Write a registration, whole or not at all."""
    _write(path, registration)


def read_unfinished(path: str | Path) -> Unfinished:
    """Return what the archive of an unfinished study says that it lacks. Raises UserError."""
    return _read(path, Unfinished, "unfinished")


def unfinished_text(unfinished: Unfinished) -> str:
    """Return the text of the file that an unfinished archive holds."""
    return to_json(msgspec.to_builtins(unfinished))


def read_grade(path: str | Path) -> Grade:
    """Return the grade that a file holds. Raises UserError."""
    return _read(path, Grade, "grade")


def write_grade(path: str | Path, grade: Grade) -> None:
    """Write a grade, whole or not at all."""
    _write(path, grade)


def read_agreement(path: str | Path) -> Agreement:
    """Return the agreement that a file holds. Raises UserError."""
    return _read(path, Agreement, "agreement")


def write_agreement(path: str | Path, agreement: Agreement) -> None:
    """Write an agreement, whole or not at all."""
    _write(path, agreement)


def read_warm_up(path: str | Path) -> WarmUp:
    """Return the warm-up that a file holds. Raises UserError."""
    return _read(path, WarmUp, "warm_up")


def write_warm_up(path: str | Path, warm_up: WarmUp) -> None:
    """Write a warm-up, whole or not at all."""
    _write(path, warm_up)


def read_provided(path: str | Path) -> Facts:
    """Return the facts of a runtime that was provided, `version` among them. Raises UserError."""
    content = _content(path, "provided_facts")
    _decoded(content, ProvidedFacts, path, "provided_facts")
    return _decoded(content, dict[str, Scalar], path, "provided_facts")


def write_provided(path: str | Path, facts: Facts) -> None:
    """Write the facts of a runtime that was provided, whole or not at all.

    Raises UserError when they hold no `version` or are not flat.
    """
    content = to_json(facts).encode()
    _decoded(content, ProvidedFacts, path, "provided_facts")
    _decoded(content, dict[str, Scalar], path, "provided_facts")
    write_atomic(path, content)


def read_prompts_file(path: str | Path) -> PromptsFile:
    """Return what a prompts file holds, in schema 1 or 2. Raises UserError."""
    first, *others = _content(path, "prompts").splitlines() or [b""]
    place = f"{path}, line 1"
    if b'"schema"' in first:
        model = _decoded(first, PromptsHeader, place, "prompts").model
        return PromptsFile(model, list(_lines(others, PromptRow, path)))
    model = _decoded(first, prompts_file.ModelRowOfSchema1, place, "prompts").as_now()
    rows = _lines(others, prompts_file.PromptRowOfSchema1, path)
    return PromptsFile(model, [row.as_now() for row in rows])


def write_prompts_file(path: str | Path, prompts: PromptsFile) -> None:
    """Write a prompts file of schema 2, whole or not at all."""
    parts = [PromptsHeader(prompts_file.SCHEMA, prompts.model), *prompts.prompts]
    lines = [json.dumps(msgspec.to_builtins(part)) + "\n" for part in parts]
    write_atomic(path, "".join(lines))


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of a kind of stored file: one of `KINDS`."""
    known = KINDS[kind]
    parts, definitions = msgspec.json.schema_components(known.parts, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        # The rest of a docstring speaks to the reader of the code.
        first = definition.get("description", "").split("\n\n")[0]
        definition["description"] = " ".join(first.split())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": known.title,
        "description": " ".join(definitions[part.__name__]["description"] for part in known.parts),
        **(parts[0] if len(parts) == 1 else {"anyOf": list(parts)}),
        "$defs": definitions,
    }


def schema_text(kind: str) -> str:
    """Return the JSON schema of a kind as YAML; equal types give equal text."""
    import yaml  # needed by nobody who reads or writes a stored file

    return yaml.safe_dump(schema_of(kind), sort_keys=False, allow_unicode=True, width=100)


_decoders: dict[object, msgspec.json.Decoder] = {}


def _decoder(part: type[T]) -> msgspec.json.Decoder[T]:
    if part not in _decoders:
        _decoders[part] = msgspec.json.Decoder(part)
    return _decoders[part]


def _content(path: str | Path, kind: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing; expected a {KINDS[kind].name}. Run the rule that makes it."
        ) from error


def _read(path: str | Path, part: type[T], kind: str) -> T:
    return _decoded(_content(path, kind), part, path, kind)


def _lines(lines: list[bytes], part: type[T], path: str | Path) -> Iterator[T]:
    for number, line in enumerate(lines, start=2):
        yield _decoded(line, part, f"{path}, line {number}", "prompts")


def _write(path: str | Path, value: msgspec.Struct) -> None:
    write_atomic(path, to_json(msgspec.to_builtins(value)))


def _decoded(content: bytes, part: type[T], source: str | Path, kind: str) -> T:
    """Return what JSON text holds as the type `part`. `source` says in messages where it lies."""
    try:
        return _decoder(part).decode(content)
    except msgspec.ValidationError as error:
        raise _wrong(error, content, part, source, kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # half a surrogate pair, which a model may write, is JSON all the same
    except UserError as error:
        raise UserError(f"{source} holds settings that cannot be. {error}") from error
    known = KINDS[kind]
    try:
        return msgspec.convert(json.loads(content, parse_constant=_refuse), part)
    except msgspec.ValidationError as error:
        raise _wrong(error, content, part, source, kind) from error
    except ValueError as error:
        raise UserError(
            f"{source} is not JSON ({error}); expected a whole {known.name}. {known.remedy}."
        ) from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _wrong(
    error: msgspec.ValidationError, content: bytes, part: type, source: str | Path, kind: str
) -> UserError:
    """Return the error of a file whose JSON is not what its type says."""
    known = KINDS[kind]
    found = re.fullmatch(r"(.*?)(?: - at `(?:key in )?(\$.*)`)?", str(error), re.DOTALL)
    said, place = (found[1], found[2] or "$") if found else (str(error), "$")
    key = re.search(r"(?:required|unknown) field `(.*)`", said)
    inside = "" if place == "$" else f" at `{place}`"
    if key and "required" in said:
        wrong = f"lacks `{key[1]}`{inside}; expected it in every {known.name}"
    elif key:
        wrong = f"holds the unknown key `{key[1]}`{inside}; expected only keys of a {known.name}"
    else:
        steps = re.findall(r"\.([^.\[\]]+)|\[([^\]]+)\]", place)
        path = [name or index for name, index in steps]
        wrong = (
            f"holds {_shown(content, path, said)} at `{place}`; expected {_due(part, path, said)}"
        )
    return UserError(f"{source} {wrong}. {known.remedy}.")


def _shown(content: bytes, path: list[str], said: str) -> str:
    """Return the value at a place inside JSON text, in short; its type where a key is not named."""
    value = json.loads(content)
    for step in path:
        if step == "...":
            return f"a value of the type {said.rpartition('got ')[2]}"
        value = value[int(step) if isinstance(value, list) else step]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SEEN else f"{text[:LONGEST_SEEN]}…"


def _due(part: type, path: list[str], said: str) -> str:
    """Return what was expected at a place, from msgspec's words or else from the schema."""
    if said.startswith("Expected "):
        return said.removeprefix("Expected ").partition(", got ")[0]
    (start,), definitions = msgspec.json.schema_components([part], ref_template="{name}")
    nodes = [start]
    for step in [*path, None]:
        # A node stands for all that it may be.
        nodes = [each for node in nodes for each in [node, *node.get("anyOf", [])]]
        nodes = [definitions[node["$ref"]] if "$ref" in node else node for node in nodes]
        if step is not None:
            inner = [node.get("properties", {}).get(step) for node in nodes]
            others = [
                node.get(name) for node in nodes for name in ("items", "additionalProperties")
            ]
            nodes = [node for node in [*inner, *others] if isinstance(node, dict)]
    allowed = [str(value) for node in nodes for value in node.get("enum", [])]
    return f"one of {', '.join(allowed)}" if allowed else said
