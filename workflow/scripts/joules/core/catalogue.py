"""The catalogue of models (config/models.yaml): its keys with their types, limits and meaning."""

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from joules.core.conditions import Count
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.keys import EXPLAINED, Schema, converted, merged, near, schema_of

FILE = "config/models.yaml"
Style = Literal["base", "chat"]
Newline = Literal["unchanged", "strip", "strip_add"]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", title="64 small hexadecimal digits")]
Text = Annotated[str, Meta(min_length=1, title="a text that is not empty")]

MOST_TOKENS = "The most tokens of an answer, where the study says `max_tokens: catalogue`."


class BaseStyle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an answer ends where a problem is sent to be continued."""

    cut: Annotated[
        Literal["column_0", "stop_strings"],
        Meta(
            description="What belongs to an answer when it is graded: all before the first line "
            "that starts in column 0 (`column_0`), or all before the first of EvalPlus' stop "
            "strings (`stop_strings`), for the comparison with scores that were published with "
            "them."
        ),
    ]
    max_tokens: Annotated[Count, Meta(description=MOST_TOKENS)]


class ChatStyle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an answer ends where it is opened with a code block."""

    cut: Annotated[
        Literal["closing_fence"],
        Meta(
            description="What belongs to an answer when it is graded: the code block that the "
            "prompt opened."
        ),
    ]
    max_tokens: Annotated[Count, Meta(description=MOST_TOKENS)]


class PromptStyles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How answers end, by prompt style."""

    base: BaseStyle = BaseStyle(cut="column_0", max_tokens=768)
    chat: ChatStyle = ChatStyle(cut="closing_fence", max_tokens=1024)

    def of(self, style: Style) -> BaseStyle | ChatStyle:
        """Return how answers of one prompt style end."""
        return self.base if style == "base" else self.chat


class PublishedScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A published HumanEval score, to compare the measured one with."""

    value: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="A published score to compare with: the share of the 164 problems solved "
            "by the first answer, in percent.",
        ),
    ]
    source: Annotated[Text, Meta(description="Where the score is published.")]


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model: where its file comes from, its identity, and how it is asked."""

    path: Annotated[
        Text | None,
        Meta(
            description="A GGUF file on this disk, relative to the repository or absolute; needs "
            "`sha256`. It is taken before `url`, and is in no archive. Or:"
        ),
    ] = None
    url: Annotated[
        Annotated[str, Meta(pattern="^https?://", title="an address of http or https")] | None,
        Meta(
            description="The full address of the GGUF file. Name a revision in it rather than "
            "`main`."
        ),
    ] = None
    sha256: Annotated[
        Sha256 | None,
        Meta(
            description="Of the file, in hexadecimal digits; the identity of the model. May be "
            "left out only with `url` and `trust_on_first_use`."
        ),
    ] = None
    bytes: Annotated[
        Count | None,
        Meta(description="Size of the file; free space is checked before the transfer."),
    ] = None
    license: Annotated[str, Meta(description="Of the weights.")]
    prompt_style: Annotated[
        Style,
        Meta(
            description="`base`: the problem itself is sent, to be continued. `chat`: the problem "
            "is put into the model's chat template, and the answer is opened with a code block."
        ),
    ]
    newline: Annotated[
        Newline,
        Meta(
            description="For `base`, white space around a problem: `unchanged`, `strip`, or "
            "`strip_add` (strip, then one newline). It can decide whether a model answers at all."
        ),
    ] = "unchanged"
    chat_template: Annotated[
        Text | None,
        Meta(
            description="A Jinja template: for a file that has none, or in the place of one that "
            "cannot be used. It wins over the file's."
        ),
    ] = None
    chat_template_source: Annotated[
        Text | None,
        Meta(description="Where its format is published; needed with `chat_template`."),
    ] = None
    published_pass_at_1: PublishedScore | None = None
    never_ends: Annotated[
        bool,
        Meta(
            description="`true`: the model never samples an end-of-text token, so that a runtime "
            "which cannot ignore it can be asked for kind `fixed`. Warm-up and records check it."
        ),
    ] = False
    repo: Annotated[
        str | None, Meta(description="For people: the repository that `url` points into.")
    ] = None
    revision: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$(?!\n)", title="40 small hexadecimal digits")]
        | None,
        Meta(description="For people: the commit of `repo` that `url` points into."),
    ] = None
    file: Annotated[str | None, Meta(description="For people: the file's name inside `repo`.")] = (
        None
    )
    bundled: Annotated[bool, Meta(description="The file is part of this repository.")] = False

    def __post_init__(self) -> None:
        if self.path is None and self.url is None:
            raise ValueError("It has neither `path` nor `url`. Give one.")
        if self.path is not None and self.sha256 is None:
            raise ValueError("It has `path` and no `sha256`, which a path needs. Add it.")
        if (self.chat_template is None) != (self.chat_template_source is None):
            raise ValueError(
                "It has one of `chat_template` and `chat_template_source`. Give both or neither."
            )


ENTRY_RULES = {  # what `ModelEntry.__post_init__` says, for the schema
    "anyOf": [{"required": ["path"]}, {"required": ["url"]}],
    "dependentRequired": {
        "path": ["sha256"],
        "chat_template": ["chat_template_source"],
        "chat_template_source": ["chat_template"],
    },
}
CatalogueName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*$(?!\n)")]


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The models that a study may name, where their files come from and how they are asked."""

    prompt_styles: PromptStyles = PromptStyles()
    models: Annotated[
        dict[CatalogueName, Annotated[ModelEntry, Meta(extra_json_schema=ENTRY_RULES)]],
        Meta(
            min_length=1,
            description="One entry per model. The key is the name that the config and every record "
            "use; it becomes part of file names.",
        ),
    ]


class Prompting(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a model's prompts, and where its answers are cut."""

    sha256: Annotated[str | None, Meta(description="Of the model file; null where not stated.")]
    prompt_style: Annotated[Style, Meta(description="`base` or `chat`.")]
    newline: Annotated[Newline, Meta(description="White space around a problem in base style.")]
    chat_template: Annotated[str | None, Meta(description="Null: the one in the model file.")]
    never_ends: Annotated[bool, Meta(description="Whether it never samples an end of text.")]
    cut: Annotated[str, Meta(description="Where an answer ends when it is graded.")]


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a model's file is, its hash and its size."""

    path: str | None = None
    url: str | None = None
    sha256: str | None = None
    bytes: int | None = None


def catalogue_from(
    catalogue: Mapping[str, object], own: Mapping[str, Options] | None = None
) -> Catalogue:
    """Return the catalogue that a plain mapping describes, with a study's own entries laid over it.

    `own` is `catalogue` of a study: keys of an entry that is there, or a whole one. Raises
    UserError that names the model and the key of what is wrong.
    """
    models = catalogue.get("models")
    if isinstance(models, Mapping):
        if own:
            models = {**models, **{name: merged(models.get(name), own[name]) for name in own}}
            catalogue = {**catalogue, "models": models}
        for name, entry in models.items():  # one by one, so that errors name the model
            where = f"{FILE}, with the study's `catalogue`" if name in (own or {}) else FILE
            converted(entry, ModelEntry, f"The entry `{name}` of {where}")
            if isinstance(entry, Mapping) and None in entry.values():
                empty = ", ".join(f"`{key}`" for key, value in entry.items() if value is None)
                raise UserError(
                    f"The entry `{name}` of {where} has nothing at {empty}. Expected a value. "
                    f"Give it one, or take the key out. {EXPLAINED}"
                )
    return converted(catalogue, Catalogue, FILE)


def lookup(catalogue: Catalogue, name: str) -> ModelEntry:
    """Return the entry of a model. Raises UserError, with near matches, for an unknown name."""
    if name in catalogue.models:
        return catalogue.models[name]
    raise UserError(
        f"Unknown model {name!r}. {near(name, catalogue.models)} "
        f"Correct `models` in the config, or add an entry to {FILE}."
    )


def prompting_of(catalogue: Catalogue, model: str) -> Prompting:
    """Return what decides a model's prompts."""
    entry = lookup(catalogue, model)
    return Prompting(
        sha256=entry.sha256,
        prompt_style=entry.prompt_style,
        newline=entry.newline,
        chat_template=entry.chat_template,
        never_ends=entry.never_ends,
        cut=catalogue.prompt_styles.of(entry.prompt_style).cut,
    )


def source_of(entry: ModelEntry) -> Source:
    """Return where a model's file is: at its path where it has one, else at its address."""
    url = entry.url if entry.path is None else None
    return Source(path=entry.path, url=url, sha256=entry.sha256, bytes=entry.bytes)


def identity_of(name: str, catalogue: Catalogue, pinned: Catalogue) -> Source:
    """Return what decides the bytes of a model's file, in a study's catalogue and the pinned one.

    A file of one sum is the same wherever it comes from, so that a place of a study's own makes no
    run of another study stale: of two places the pinned one stands for both.
    """
    entry, known = lookup(catalogue, name), pinned.models.get(name)
    if entry.sha256 is None:
        return source_of(entry)
    if known is not None and known.sha256 == entry.sha256:
        return source_of(known)
    return Source(sha256=entry.sha256)


def archived_catalogue_of(
    catalogue: Catalogue, models: Collection[str], pinned: Catalogue | None = None
) -> dict[str, object]:
    """Return the catalogue as an archive keeps it, cut to some models, for `catalogue_from`.

    No place of a machine is in it: a file has its sum and its address in the `pinned` catalogue,
    which is the same one where it is left out.
    """
    known = (pinned or catalogue).models
    entries = {
        name: {
            key: value
            for key, value in msgspec.to_builtins(_public(entry, known.get(name))).items()
            if value is not None
        }
        for name, entry in catalogue.models.items()
        if name in models
    }
    return {"prompt_styles": msgspec.to_builtins(catalogue.prompt_styles), "models": entries}


def _public(entry: ModelEntry, pinned: ModelEntry | None) -> ModelEntry:
    """Return an entry with the address that is pinned for its sum, without a folder of a machine.

    A file without an address keeps its name alone; a file of this repository keeps its place.
    """
    known = pinned is not None and pinned.sha256 == entry.sha256
    if pinned is not None and known:
        entry = msgspec.structs.replace(
            entry, path=pinned.path, url=pinned.url, bundled=pinned.bundled
        )
    if entry.path is None or (known and entry.bundled):
        return entry
    name = None if entry.url else PurePath(entry.path).name
    return msgspec.structs.replace(entry, path=name, bundled=False)


def models_schema() -> Schema:
    """Return the JSON schema of the catalogue."""
    return schema_of(Catalogue, "The model catalogue")
