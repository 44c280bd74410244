"""What is said of a comparison, in sentences that claim no more than its verdict.

Where a pair may not be claimed, no sentence says which of the two needs less.
"""

import math
from collections.abc import Sequence

from joules.core.analysis import FAMILIES, NO_CLAIM
from joules.core.wording import listed, percent, significant
from joules.write.arm_words import in_sentence
from joules.write.claims_file import StudiedModel, StudiedRuntime
from joules.write.printed_numbers import Numbers

PRIMARY, SECONDARY = FAMILIES[:2]

Pair = tuple[StudiedModel, StudiedRuntime, StudiedRuntime]


def pair_prefix(pair: Pair, group: str = "pair") -> str:
    """Return the beginning of the ids of a pair's claims, as `pair.{model}.{a}.{b}`."""
    model, first, second = pair
    return f"{group}.{model.name}.{first.name}.{second.name}"


def labels_of(pair: Pair) -> tuple[str, str]:
    """Return the labels of the two that a pair compares, as sentences take them."""
    return in_sentence(pair[1].label), in_sentence(pair[2].label)


class Sentences(Numbers):
    """The sentences on comparisons, from the claims of a study."""

    def verdict(self, prefix: str) -> str:
        """Return the verdict of a comparison in words; `no claim` where none is permitted.

        `prefix` is as `pair.{model}.{runtime_a}.{runtime_b}` or `correct.…` or `fixed.…`.
        """
        claim = self.claim(f"{prefix}.verdict")
        permitted = self.permission.energy_difference and claim.may_be_stated
        return str(claim.value) if permitted and claim.value is not None else NO_CLAIM

    def apart(self, prefix: str) -> bool:
        """Return whether a comparison's verdict, where one may be stated, says which needs less."""
        return "apart" in self.verdict(prefix)

    def is_secondary(self, pair: Pair) -> bool:
        """Return whether the study names contrasts, and a pair is none of them."""
        family = self.claims.get(f"{pair_prefix(pair)}.family")
        return family is not None and family.value == SECONDARY

    def energy_noun(self) -> str:
        """Return what the energy of a claim is called."""
        return {"gpu": "GPU energy", "wall": "energy at the wall"}.get(self.study.energy, "energy")

    def in_noise(self, pair: Pair) -> bool:
        """Return whether a ratio, or its inverse, lies inside the interval of the null control."""
        control = self.claims.get(f"control.{pair[0].name}.ratio")
        ratio = self.quantity(f"{pair_prefix(pair)}.ratio")
        if control is None or control.low is None or control.high is None or not ratio:
            return False
        return any(control.low <= value <= control.high for value in (ratio, 1 / ratio))

    def shown_verdict(self, pair: Pair, group: str = "pair") -> str:
        """Return a verdict as a table shows it, with a word where noise alone gives as much."""
        prefix = pair_prefix(pair, group)
        inside = group == "pair" and self.apart(prefix) and self.in_noise(pair)
        return self.verdict(prefix) + (" (within the noise floor)" if inside else "")

    def _evidence(self, prefix: str) -> str:
        level = percent(self.study.confidence)
        wide = self.interval(f"{prefix}.ratio_simultaneous")
        together = f", {wide} for all together" if wide else ""
        return (
            f"ratio {self.ratio(f'{prefix}.ratio')}, {level} interval "
            f"{self.interval(f'{prefix}.ratio')}{together}; adjusted p {self.p(f'{prefix}.p_holm')}"
        )

    def sentence(self, pair: Pair) -> str:
        """Return one comparison as a sentence that claims no more than its verdict."""
        (first, second), prefix = labels_of(pair), pair_prefix(pair)
        verdict, ratio = self.verdict(prefix), self.quantity(f"{prefix}.ratio")
        margin, names = percent(self.study.margin), f"{first} and {second}"
        about = f"{pair[0].name}{' (secondary)' if self.is_secondary(pair) else ''}"
        if ratio is None or verdict == NO_CLAIM:
            return f"{about}: no claim is made about {names}. {self.reason(prefix)}".strip()
        evidence = self._evidence(prefix)
        if verdict.startswith("open"):
            return (
                f"{about}: the comparison of {names} is open. The data show neither a "
                f"difference nor that the two are equal within {margin} ({evidence})."
            )
        if verdict.startswith("equal"):
            return f"{about}: {names} are {verdict} ({evidence})."
        less, more = (first, second) if ratio < 1 else (second, first)
        saving = percent(1 - min(ratio, 1 / ratio))
        said = (
            f"{about}: {less} needs {saving} less {self.energy_noun()} per token than {more}, "
            f"{verdict} ({evidence})."
        )
        return f"{said} {self.noise_note(pair)}" if self.in_noise(pair) else said

    def noise_note(self, pair: Pair) -> str:
        """Return what is said of an effect that lies inside the null control's interval."""
        inside = self.interval(f"control.{pair[0].name}.ratio")
        where = "inside the interval of the null control"
        return f"This ratio lies {where}, {inside}: the noise floor."

    def reason(self, prefix: str) -> str:
        """Return why a pair may not be claimed, as far as it has a reason of its own."""
        claim = self.claims.get(f"{prefix}.no_claim_reason")
        return "" if claim is None or claim.value is None else self.labelled(str(claim.value))

    def findings(self, pairs: Sequence[Pair]) -> list[str]:
        """Return one sentence per pair of runtimes and kind of verdict, the models put together."""
        groups: dict[tuple[str, str, str, bool], list[tuple[str, float]]] = {}
        for pair in pairs:
            model, first, second = pair
            prefix = pair_prefix(pair)
            verdict, ratio = self.verdict(prefix), self.quantity(f"{prefix}.ratio")
            apart = "apart" in verdict and ratio is not None
            a, b = labels_of((model, first, second))
            a, b = (b, a) if apart and ratio is not None and ratio > 1 else (a, b)
            saving = 1 - min(ratio, 1 / ratio) if apart and ratio else 0.0
            inside = apart and self.in_noise(pair)
            groups.setdefault((verdict, a, b, inside), []).append((model.name, saving))
        sentences = []
        for (verdict, one, other, inside), members in groups.items():
            models = listed([name for name, _ in members])
            least, most = (percent(bound(saving for _, saving in members)) for bound in (min, max))
            by = least if least == most else f"{least} to {most}"
            if "apart" in verdict:
                tail = "; this is within the noise floor of the null control" if inside else ""
                sentences.append(
                    f"{one} needs {by} less {self.energy_noun()} per token than {other} with "
                    f"{models}, {verdict}{tail}."
                )
            elif verdict.startswith("equal"):
                sentences.append(f"{one} and {other} are {verdict} with {models}.")
            elif verdict == NO_CLAIM:
                sentences.append(f"No claim is made about {one} and {other} with {models}.")
            else:
                sentences.append(f"The comparison of {one} and {other} is open with {models}.")
        return sentences

    def power_times_time(self, pair: Pair) -> str:
        """Return how a ratio of energy splits into one of power and one of time, in words."""
        model = pair[0]
        parts = [
            self.quantity(f"{pair_prefix(pair, 'explains')}.{quantity}")
            for quantity in ("energy_j_per_token", "power_w", "seconds_per_token")
        ]
        if None in parts:
            return ""
        energy, power, time = (
            self.ratio(f"{pair_prefix(pair, 'explains')}.{quantity}")
            for quantity in ("energy_j_per_token", "power_w", "seconds_per_token")
        )
        names = " over ".join(labels_of(pair))
        product = f"energy {energy} is power {power} times time {time} per token"
        if not self.apart(pair_prefix(pair)):
            word = self.verdict(pair_prefix(pair))
            return f"{model.name}, {names}: {product} ({word})."
        driver = "time" if abs(_log(parts[2])) >= abs(_log(parts[1])) else "power"
        return f"{model.name}, {names}: {product}. Most of the difference is one of {driver}."

    def yearly(self, pair: Pair) -> str:
        """Return a claimed difference in kWh a year for the stated use; empty without a claim."""
        (first, second), model = labels_of(pair), pair[0]
        claim_id = f"{pair_prefix(pair, 'use')}.kwh_per_year"
        if not self.apart(pair_prefix(pair)) or not self.has(claim_id):
            return ""
        more = float(self.quantity(claim_id) or 0)
        less_label, more_label = (first, second) if more < 0 else (second, first)
        amount = self.link(claim_id, f"{significant(abs(more))} kWh")
        return f"With {model.name}, {less_label} would need {amount} a year less than {more_label}."

    def control_found(self, model: StudiedModel) -> str:
        """Return what the null control of a model found, in words."""
        p_holm = self.quantity(f"control.{model.name}.p_holm")
        blocks = int(self.quantity(f"control.{model.name}.n_blocks") or 0)
        if p_holm is None or 2.0 ** (1 - blocks) >= self.study.alpha:  # the least p of sign flips
            return "nothing; its blocks are too few"
        if p_holm < self.study.alpha:
            return f"a difference where there is none: {NO_CLAIM} of this study"
        return "no difference"


def _log(ratio: int | float | None) -> float:
    return math.log(ratio) if ratio else 0.0
