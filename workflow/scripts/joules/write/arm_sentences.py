"""What the article says of arms: which settings each holds, what each contrast answers, builds."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from joules.core.inference import OWN_CHOICE, Scalar
from joules.core.wording import counted, listed, number_of
from joules.write.arm_words import (
    OWN_CHOICE_HIDDEN,
    in_sentence,
    setting_words,
    state_words,
    value_words,
)
from joules.write.builds import Build, builds, why_texts
from joules.write.claims_file import StudiedArm, StudiedRuntime
from joules.write.contrasts import Contrast, contrast_of
from joules.write.sentences import PRIMARY, SECONDARY, Pair, Sentences, pair_prefix

NONE = "–"
# Beyond so many comparisons, tables give one line to each and sentences are counted.
MOST_IN_DETAIL = 8


class Answer(NamedTuple):
    """A contrast, and what the verdicts say of it: as sentences, and as one cell of a table."""

    contrast: Contrast
    findings: list[str]
    verdicts: str


class SettingRow(NamedTuple):
    """A row of the table of settings: what was asked, by whom otherwise, and the limits."""

    setting: str
    asked: Scalar
    otherwise: str
    cannot_hold: str
    unobservable: str


class SoftwareRow(NamedTuple):
    """A row of the table of versions and builds."""

    name: str
    value: Any


def said(runtimes: Iterable[StudiedRuntime]) -> list[str]:
    """Return the labels as sentences take them."""
    return [in_sentence(runtime.label) for runtime in runtimes]


class ArmSentences(Sentences):
    """The sentences on arms, from the facts and claims of a study."""

    @property
    def named(self) -> bool:
        """Whether the study names arms: what is compared is more than runtimes by their names."""
        return any(runtime.arm for runtime in self.study.runtimes)

    def installed(self) -> list[StudiedRuntime]:
        """Return the arms that chose their settings themselves."""
        return [runtime for runtime in self.study.runtimes if runtime.as_installed]

    def told(self) -> list[StudiedRuntime]:
        """Return the arms that were told their settings."""
        return [runtime for runtime in self.study.runtimes if not runtime.as_installed]

    def pairs(self) -> list[Pair]:
        """Return every (model, runtime, runtime) that is compared, in the order of the study."""
        return [
            (model, first, second)
            for model in self.study.models
            for first, second in itertools.combinations(self.study.runtimes, 2)
        ]

    def primary_pairs(self) -> list[Pair]:
        """Return the pairs of the contrasts that the study names; all where it names none."""
        return [pair for pair in self.pairs() if not self.is_secondary(pair)]

    def told_pairs(self) -> list[Pair]:
        """Return the pairs that are told of at length: all, or the primary ones of many."""
        return self.pairs() if len(self.pairs()) <= MOST_IN_DETAIL else self.primary_pairs()

    def contrasts(self) -> list[tuple[StudiedRuntime, StudiedRuntime]]:
        """Return the pairs of runtimes that are told of at length, in the order of the study."""
        told = {(first.name, second.name) for _, first, second in self.told_pairs()}
        every = itertools.combinations(self.study.runtimes, 2)
        return [(a, b) for a, b in every if (a.name, b.name) in told]

    def module_names(self) -> list[str]:
        """Return the names of the runtimes that are compared, each once."""
        return list(dict.fromkeys(runtime.module for runtime in self.study.runtimes))

    def compared_words(self) -> str:
        """Return who is compared with their number, as `four arms of two runtimes (…)`."""
        names = listed(said(self.study.runtimes))
        count = counted(len(self.study.runtimes), "arm" if self.named else "runtime")
        of = f" of {counted(len(self.module_names()), 'runtime')}" if self.named else ""
        return f"{count}{of} ({names})"

    def settings_sentences(self) -> list[str]:
        """Return which arms hold the settings of the study, and how the others differ."""
        equal = [runtime for runtime in self.told() if runtime.holds_equal]
        found = []
        if equal:
            verb = "holds" if len(equal) == 1 else "hold"
            found.append(f"{listed(said(equal))} {verb} the settings of the study.")
        for runtime in self.told():
            if runtime.arm and runtime.arm.stated:
                own = [
                    f"{setting_words(name)} ({state_words(value)})"
                    for name, value in runtime.arm.stated.items()
                ]
                found.append(f"{in_sentence(runtime.label)} differs in {listed(own)}.")
        if installed := self.installed():
            one = len(installed) == 1
            they, their, was = ("it", "its", "was") if one else ("they", "their", "were")
            found.append(
                f"{listed(said(installed))} {was} told the context length, the longest answer and "
                f"greedy decoding, and nothing else; the rest is {their} own choice. No flush "
                f"prompt is sent there, and {they} may keep what {they} computed of an earlier "
                "prompt."
            )
        return found

    def settings_rows(self) -> list[SettingRow]:
        """Return the table of settings; what arms as installed chose is in a table of its own."""
        told = self.told()
        rows = []
        for setting, value in self.study.settings.items():
            if told or setting not in OWN_CHOICE:
                cannot = [each for each in told if setting in each.cannot_hold]
                hidden = [each for each in told if setting in each.unobservable]
                every = "all" if len(hidden) == len(told) > 2 else ""
                rows.append(
                    SettingRow(
                        setting=setting.replace("_", " "),
                        asked=value,
                        otherwise=self._otherwise(setting),
                        cannot_hold=listed(said(cannot)) if cannot else NONE,
                        unobservable=every or (listed(said(hidden)) if hidden else NONE),
                    )
                )
        return rows

    def _otherwise(self, setting: str) -> str:
        """Return which arms state another value of a setting, in words."""
        found = [
            f"{value_words(runtime.arm.stated[setting])} in {in_sentence(runtime.label)}"
            for runtime in self.study.runtimes
            if runtime.arm and setting in runtime.arm.stated
        ]
        return "; ".join(found) or NONE

    def chosen_rows(self) -> list[tuple[str, list[str]]]:
        """Return what each arm as installed chose of each setting, as far as it shows it."""
        arms = [runtime.arm for runtime in self.installed() if runtime.arm]
        names = [name for name in sorted(OWN_CHOICE) if any(name in arm.asked for arm in arms)]
        return [(name.replace("_", " "), [_choice(arm, name) for arm in arms]) for name in names]

    def software_rows(self) -> list[SoftwareRow]:
        """Return version and facts of each runtime; what several arms of one share is told once."""
        rows = []
        for module in dict.fromkeys(runtime.module for runtime in self.study.runtimes):
            arms = [runtime for runtime in self.study.runtimes if runtime.module == module]
            rows += _software_of(arms, [(arm, arm.version) for arm in arms if arm.version], "")
            for key in dict.fromkeys(key for arm in arms for key in arm.facts if key != "version"):
                values = [(arm, arm.facts[key]) for arm in arms if key in arm.facts]
                rows += _software_of(arms, values, f": {key.replace('_', ' ')}")
        return rows

    def answers(self) -> list[Answer]:
        """Return what each primary contrast answers, with its verdicts over all models.

        Empty where the study names no arms and no runtime says which engine it has: then all that
        is known of two runtimes is that they are two.
        """
        engines = any(runtime.facts.get("engine_sha256") for runtime in self.study.runtimes)
        if not (self.named or engines):
            return []
        return [
            self._answer(contrast_of(a, b))
            for a, b in itertools.combinations(self.study.runtimes, 2)
            if not all(self.is_secondary((model, a, b)) for model in self.study.models)
        ]

    def _answer(self, contrast: Contrast) -> Answer:
        pairs = [(model, contrast.a, contrast.b) for model in self.study.models]
        words = [f"{pair[0].name}: {self.verdict(pair_prefix(pair))}" for pair in pairs]
        return Answer(contrast, self.findings(pairs), "; ".join(words))

    def builds(self) -> list[Build]:
        """Return the table of builds of llama.cpp, where contrasts are told."""
        return builds(self.study.runtimes) if self.answers() else []

    def why_texts(self) -> str:
        """Return what explains that the runtimes' texts are the same or not."""
        shares = [
            (pair, self.claims.get(f"{pair_prefix(pair)}.same_text_share"))
            for pair in self.told_pairs()
        ]
        return why_texts(
            [(a, b, float(share.value or 0)) for (_, a, b), share in shares if share is not None]
        )

    def family(self, pair: Pair, group: str) -> str:
        """Return the family in which a comparison is corrected; `group` is that of its claims."""
        if group == "fixed":
            return group
        return SECONDARY if self.is_secondary(pair) else PRIMARY

    def secondary_note(self) -> str:
        """Return what is said of pairs that are no contrast of the study; empty without any."""
        others = len(self.pairs()) - len(self.primary_pairs())
        if not others:
            return ""
        verb = "is" if others == 1 else "are"
        return (
            f"{number_of(others, 'further comparison')} {verb} secondary: no question of this "
            "study, and corrected apart."
        )


def _choice(arm: StudiedArm, name: str) -> str:
    shown = arm.in_force.get(name)
    return OWN_CHOICE_HIDDEN if shown is None else value_words(shown)


def _software_of(
    arms: Sequence[StudiedRuntime], values: Sequence[tuple[StudiedRuntime, Any]], what: str
) -> list[SoftwareRow]:
    """Return a row for each value that some arms of one runtime have.

    That of the most arms bears the runtime's name, the others those of their arms.
    """
    groups = {repr(value): [arm for arm, own in values if own == value] for _, value in values}
    most = max(groups.values(), key=len, default=[])
    rows = []
    for value in {repr(value): value for _, value in values}.values():
        having = groups[repr(value)]
        name = arms[0].runtime_label if having is most else listed(said(having))
        rows.append(SoftwareRow(f"{name}{what}", value))
    return rows
