"""Arms: what is compared is a runtime with its settings and options, under a name.

An arm that states nothing of its own is its runtime at the study's settings. Standard library and
msgspec only: rule files import this.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from joules.core.analysis import ALL_ARMS
from joules.core.conditions import AskedSettings, Count
from joules.core.errors import UserError
from joules.core.inference import KvCacheType, Options
from joules.core.values import Stored

AS_INSTALLED: Literal["as_installed"] = "as_installed"

PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"  # of a path below results/: neither `.` nor `..`
END = r"$(?!\n)"  # Python's `$` alone matches before a newline, too
NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
FORM = "letters, digits, `.`, `_` and `-`"
ArmName = Annotated[str, Meta(pattern=f"^{NAME}{END}", title=f"a name of {FORM}")]
RuntimeName = Annotated[
    str, Meta(pattern=f"^[a-z0-9_]+{END}", title="a name of small letters, digits and `_`")
]


AS_OF_STUDY = Meta(description="As the study's setting of that name; null: as the study.")


class ArmSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """What an arm holds otherwise than the study; None: as the study.

    Prompts and the longest answer are the same for every arm, so that nothing that decides them
    stands here.
    """

    threads: Annotated[Literal["auto"] | Count | None, AS_OF_STUDY] = None
    batch_size: Annotated[Count | None, AS_OF_STUDY] = None
    micro_batch_size: Annotated[Count | None, AS_OF_STUDY] = None
    flash_attention: Annotated[bool | None, AS_OF_STUDY] = None
    gpu_layers: Annotated[Annotated[int, Meta(ge=0)] | None, AS_OF_STUDY] = None
    kv_cache: Annotated[KvCacheType | None, AS_OF_STUDY] = None

    def stated(self) -> dict[str, bool | int | str]:
        """Return the settings that it states, by name."""
        values = msgspec.structs.asdict(self)
        return {name: value for name, value in values.items() if value is not None}


class Arm(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One of those that are compared: a runtime, and what differs from the study."""

    runtime: Annotated[
        RuntimeName, Meta(description="A module in `workflow/scripts/joules/runtimes/`.")
    ]
    settings: Annotated[
        Literal["as_installed"] | ArmSettings,
        Meta(
            description="What differs from the study's `settings`. `as_installed`: the runtime "
            "chooses all but context, length of answers and greedy decoding."
        ),
    ] = ArmSettings()
    options: Annotated[
        Options, Meta(description="Laid over the runtime's options of the study.")
    ] = {}

    @property
    def as_installed(self) -> bool:
        """Whether the runtime chooses its settings itself."""
        return self.settings == AS_INSTALLED

    @property
    def plain(self) -> bool:
        """Whether it states nothing of its own: the runtime at the study's settings."""
        return self.settings == ArmSettings() and not self.options

    def asked(self, study: AskedSettings) -> AskedSettings:
        """Return the study's settings with those of this arm in their place."""
        if isinstance(self.settings, str):
            return study
        return msgspec.structs.replace(study, **self.settings.stated())


class ArmFacts(Stored, frozen=True, kw_only=True):
    """The arm of a run: its name, and what it states of its own."""

    name: Annotated[str, Meta(description="By which the study calls it.")]
    label: Annotated[
        str, Meta(description="Its runtime's label and what it states, as the article prints it.")
    ]
    settings: Annotated[
        Literal["as_installed"] | dict[str, bool | int | str],
        Meta(description="Those that differ from the study's; or the runtime chose them all."),
    ]
    options: Annotated[Options, Meta(description="Those that differ from the study's.")]


def arms_of(runtimes: tuple[str, ...], arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Return the arms of a study: those that it names, or its runtimes, each under its own name."""
    return dict(arms) or {name: Arm(runtime=name) for name in runtimes}


def check_arms(runtimes: Collection[str], arms: Mapping[str, Arm]) -> None:
    """Raise ValueError unless arms are named in one way, by names and versions that can be."""
    if bool(runtimes) == bool(arms):
        raise ValueError(
            f"The study has {'both `runtimes` and' if arms else 'neither `runtimes` nor'} `arms`. "
            "Expected one of them: `runtimes` for runtimes at the study's settings, `arms` for all "
            f"else. {'Take one out' if arms else 'Add one'}."
        )
    if ALL_ARMS in arms:
        raise ValueError(
            f"`arms` has {ALL_ARMS}, which in tables means all arms together. Expected another "
            "name. Rename it."
        )
    known: dict[str, str] = {}
    for name, arm in arms.items():
        alike = known.setdefault(name.lower(), name)
        if alike != name:
            raise ValueError(
                f"`arms` has {alike} and {name}, whose files would be one on some disks. Expected "
                "names that differ by more than capitals. Rename one."
            )
        version = arm.options.get("version", "")
        if not isinstance(version, str):
            raise ValueError(
                f"`arms.{name}.options.version` is {version!r}. Expected the version as a text. "
                "Put it into quotes."
            )


def check_twins(made_of: Mapping[str, object]) -> None:
    """Raise ValueError where two arms come to the same, by what each is made of with the study."""
    same: dict[bytes, str] = {}
    for name, all_of_it in made_of.items():
        twin = same.setdefault(msgspec.json.encode(all_of_it, order="sorted"), name)
        if twin != name:
            raise ValueError(
                f"`arms.{name}` is the same as `arms.{twin}`: with what the study says, one "
                "runtime with the same settings and options. Expected arms that differ: how far "
                "two sets of runs of one arm differ is what the control shows. Take one out."
            )


def refuse_shared(arms: object, named: str) -> None:
    """Raise UserError for an arm with a setting of its own that all arms of a study share.

    `arms` are as the configuration called `named` has them, not checked yet.
    """
    shared = set(AskedSettings.__struct_fields__) - set(ArmSettings.__struct_fields__)
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        settings = arm.get("settings") if isinstance(arm, Mapping) else None
        for key in sorted(shared & set(settings) if isinstance(settings, Mapping) else ()):
            raise UserError(
                f"{named} has `arms.{name}.settings.{key}`. It decides prompts or answers, which "
                f"are the same for every arm. Expected one of "
                f"{', '.join(ArmSettings.__struct_fields__)}. Say `settings.{key}`, which holds "
                "for all arms, or make a study of its own."
            )


def check_contrasts(
    contrasts: Sequence[tuple[str, str]], arms: Collection[str], where: str
) -> None:
    """Raise ValueError for a contrast that is no pair of the `arms`, or is named twice.

    `where` is the key that names the arms.
    """
    for number, pair in enumerate(contrasts):
        said = f"`contrasts` has [{', '.join(pair)}]"
        unknown = [name for name in pair if name not in arms]
        if unknown:
            raise ValueError(
                f"{said}, and {unknown[0]} is not among `{where}` ({', '.join(arms)}). Correct the "
                "name, or add it there."
            )
        if pair[0] == pair[1]:
            raise ValueError(f"{said}: an arm against itself. Name two different ones.")
        if any(set(pair) == set(earlier) for earlier in contrasts[:number]):
            raise ValueError(f"{said} twice, whichever comes first. Name each pair once.")


def facts_of(name: str, arm: Arm, runtime_label: str) -> ArmFacts:
    """Return what a record holds of its arm."""
    stated = arm.settings if isinstance(arm.settings, str) else arm.settings.stated()
    return ArmFacts(
        name=name, label=label_of(arm, runtime_label), settings=stated, options=arm.options
    )


def label_of(arm: Arm, runtime_label: str) -> str:
    """Return an arm as the article prints it, as `Ollama, flash attention on, 2 threads`."""
    said = [] if isinstance(arm.settings, str) else list(_words(arm.settings.stated()))
    options = {name: value for name, value in arm.options.items() if value not in ("", None)}
    version = options.pop("version", None)
    head = runtime_label if version is None else f"{runtime_label} {version}"
    said += [f"{name.replace('_', ' ')} {value}" for name, value in options.items()]
    return ", ".join([head, *(["as installed"] if arm.as_installed else []), *said])


def _words(stated: Mapping[str, bool | int | str]) -> list[str]:
    """Return settings in words, as `flash attention on` and `2 threads`."""
    words = []
    for name, value in stated.items():
        text = name.replace("_", " ").replace("kv cache", "KV cache").replace("gpu", "GPU")
        if isinstance(value, bool):
            words.append(f"{text} {'on' if value else 'off'}")
        elif name == "threads" and isinstance(value, int):
            words.append(f"{value} {'thread' if value == 1 else 'threads'}")
        else:
            words.append(f"{text} {value}")
    return words
