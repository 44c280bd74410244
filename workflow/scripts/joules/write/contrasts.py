"""What a comparison of two arms answers, from what the records say of both.

A contrast answers a question where one thing differs. Where several differ it answers what they
do together, and is called so.
"""

from typing import NamedTuple

from joules.core.inference import OWN_CHOICE
from joules.core.wording import listed
from joules.write.arm_words import in_sentence, setting_words, state_words
from joules.write.builds import distance, engine_of
from joules.write.claims_file import StudiedArm, StudiedRuntime

WRAPPER, ENGINE, RELEASE = "wrapper", "engine", "release"
DEFAULTS, SETTING, OPTION = "defaults", "setting", "option"
SEVERAL, NOTHING = "several", "nothing"

TITLES = {
    WRAPPER: "The wrapper",
    ENGINE: "The engine",
    RELEASE: "The release",
    DEFAULTS: "The defaults",
    SETTING: "One setting",
    OPTION: "One option",
    SEVERAL: "Several at once",
    NOTHING: "Nothing known to differ",
}
ANSWERS = {
    WRAPPER: "what the program around the engine costs",
    ENGINE: "what another build of the engine changes",
    RELEASE: "what another release changes, with all that it brings along",
    DEFAULTS: "what a user gets who touches nothing",
    SETTING: "what this one setting changes",
    OPTION: "what this one option changes",
    SEVERAL: "what these change together, and not which of them does",
    NOTHING: "how far two arms differ that are one, as far as the records tell",
}
SENT_TO_ALL = "what decides prompts and answers (context length, longest answer, greedy decoding)"


class Difference(NamedTuple):
    """One thing in which two arms differ: of which kind, and what it is in words."""

    kind: str
    words: str


class Contrast(NamedTuple):
    """Two arms, the kind of question that their comparison answers, and a sentence that says so.

    `distance` says how far their llama.cpp is apart; empty where it is not known, or is not.
    """

    a: StudiedRuntime
    b: StudiedRuntime
    kind: str
    sentence: str
    distance: str

    @property
    def title(self) -> str:
        """The kind in words, as it begins a paragraph."""
        return TITLES[self.kind]


def contrast_of(a: StudiedRuntime, b: StudiedRuntime) -> Contrast:
    """Return what the comparison of two arms answers, by their facts, settings and options."""
    differences = [*_of_programs(a, b), *_of_settings(a, b)]
    kind = NOTHING if not differences else SEVERAL if len(differences) > 1 else differences[0].kind
    shared = [*_shared_programs(a, b), _shared_settings(a, b)]
    differing = listed([each.words for each in differences] or ["nothing that the records show"])
    sentence = (
        f"{in_sentence(a.label)} and {in_sentence(b.label)} share {listed(shared)}; what differs "
        f"is {differing}, so the comparison shows {ANSWERS[kind]}."
    )
    return Contrast(a, b, kind, sentence, distance(a, b))


def _program(runtime: StudiedRuntime) -> str:
    return f"{runtime.runtime_label} {runtime.version}".strip()


def _both(first: str, second: str) -> str:
    """Return what each of two arms has, in brackets; empty where nothing is known of either."""
    return f" ({first or 'not known'} and {second or 'not known'})" if first or second else ""


def _of_programs(a: StudiedRuntime, b: StudiedRuntime) -> list[Difference]:
    """Return how runtimes, releases, engines and options differ."""
    engines = engine_of(a), engine_of(b)
    same, apart = engines[0].is_same_as(engines[1]), engines[0].differs_from(engines[1])
    builds = _both(engines[0].words, engines[1].words)
    if a.module != b.module:
        around = f"the program around the engine ({_program(a)} and {_program(b)})"
        if same:
            return [Difference(WRAPPER, around)]
        unknown = "" if apart else ", which the records do not show to be one"
        return [Difference(WRAPPER, around), Difference(ENGINE, f"the engine{builds}{unknown}")]
    options = _options(a, b)
    if a.version != b.version:
        engine = f", and with it the engine{builds}" if apart else ""
        release = Difference(RELEASE, f"the release ({a.version} and {b.version}){engine}")
        return [release, *options]
    if not apart:
        return options
    # An option is how another build is asked for; a second one is a difference of its own.
    asked = f", by {options[0].words}" if options else ""
    return [Difference(ENGINE, f"the engine{builds}{asked}"), *options[1:]]


def _options(a: StudiedRuntime, b: StudiedRuntime) -> list[Difference]:
    """Return the options that one of two arms of a runtime states and the other does not.

    Not the version: the facts tell it.
    """
    first, second = (each.arm.options if each.arm else {} for each in (a, b))
    names = dict.fromkeys([*first, *second])
    return [
        Difference(OPTION, f"the option {name}{_both(_of(first, name), _of(second, name))}")
        for name in names
        if name != "version" and first.get(name) != second.get(name)
    ]


def _of(options: object, name: str) -> str:
    value = options.get(name) if isinstance(options, dict) else None
    return "as the study has it" if value is None else str(value)


def _of_settings(a: StudiedRuntime, b: StudiedRuntime) -> list[Difference]:
    """Return how the settings of two arms differ."""
    if not (a.arm and b.arm):
        return []
    if a.as_installed and b.as_installed:
        own = "all other settings, which each runtime chose itself"
        return [] if a.module == b.module else [Difference(DEFAULTS, own)]
    if a.as_installed:
        return [Difference(DEFAULTS, _chosen(a, a.arm, b.arm))]
    if b.as_installed:
        return [Difference(DEFAULTS, _chosen(b, b.arm, a.arm))]
    differing = _differing(a.arm, b.arm)
    return [
        Difference(
            SETTING,
            setting_words(name)
            + _both(state_words(a.arm.asked[name]), state_words(b.arm.asked[name])),
        )
        for name in differing
    ]


def _differing(a: StudiedArm, b: StudiedArm) -> list[str]:
    return [name for name in a.asked if a.asked[name] != b.asked.get(name)]


def _chosen(installed: StudiedRuntime, own: StudiedArm, other: StudiedArm) -> str:
    """Return what a runtime chose itself, against what another arm of it was asked for."""
    names = [name for name in OWN_CHOICE if other.asked.get(name) is not None]
    shown = [
        f"{setting_words(name)} {state_words(own.in_force[name])} and not "
        f"{state_words(other.asked[name])}"
        for name in names
        if own.in_force.get(name) not in (None, other.asked[name])
    ]
    hidden = [setting_words(name) for name in names if own.in_force.get(name) is None]
    said = [listed(shown) if shown else "nothing that it shows is another"]
    said += [f"not shown: {listed(hidden)}"] if hidden else []
    choosing = in_sentence(installed.label)
    return f"all other settings, which {choosing} chose itself ({'; '.join(said)})"


def _shared_programs(a: StudiedRuntime, b: StudiedRuntime) -> list[str]:
    """Return what two arms have in common of runtime and engine, in words."""
    shared = []
    if a.module == b.module:
        same = a.version == b.version
        shared.append(f"the runtime ({_program(a) if same else a.runtime_label})")
    engine = engine_of(a)
    if engine.is_same_as(engine_of(b)):
        shared.append(f"one and the same engine ({engine.words})")
    return shared


def _shared_settings(a: StudiedRuntime, b: StudiedRuntime) -> str:
    """Return which settings two arms have in common, in words."""
    if a.as_installed and b.as_installed and a.module == b.module:
        return f"{SENT_TO_ALL}, the rest being this runtime's own choice"
    if a.as_installed or b.as_installed:
        return SENT_TO_ALL
    differ = bool(a.arm and b.arm) and bool(_differing(a.arm, b.arm))  # type: ignore[arg-type]
    shared = "all other settings" if differ else "all settings"
    limited = sorted({*a.cannot_hold, *b.cannot_hold})
    return f"{shared}, as far as they can hold them" if limited else shared
