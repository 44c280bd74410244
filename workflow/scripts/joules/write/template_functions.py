"""What the article's template may ask for: numbers from the claims, in words that they permit.

No number of a result is typed into the template. It asks for claims by id, and an id that is not
there is an error. The words follow the data: `modelled` where nothing was measured, `inconclusive`
where the data decide nothing, and no claim where the claims file does not permit one.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from joules import runtimes
from joules.core.errors import UserError
from joules.core.wording import NOTHING, counted, listed, p_value, percent, significant, words
from joules.write.claims_file import Claim, Claims, StudiedModel, StudiedRuntime, StudyFacts
from joules.write.published_article import PublishedArticle

RATIO_DECIMALS = 3
TIER_WORDS = {"measured": "measured", "sampled": "sampled", "estimated": "modelled"}
# Terms of the field with a digit in them; the Results section of the template holds none.
TERMS = {"pass_at_1": "pass@1", "co2e": "CO₂e"}

Pair = tuple[StudiedModel, StudiedRuntime, StudiedRuntime]
Cell = tuple[StudiedModel, StudiedRuntime]


class Article:
    """The functions and variables that the template sees.

    All results are from `claims`; `published` is what the 2025 article reported, `figures` are the
    paths of the figures that exist. With `linked`, each number is a link to its claim, for the
    HTML page.
    """

    def __init__(
        self,
        claims: Claims[StudyFacts],
        published: PublishedArticle,
        figures: Iterable[str | Path] = (),
        linked: bool = False,
    ) -> None:
        self.study = claims.study
        self.permission = claims.permission
        self.claims = claims.claims
        self.published = published
        self.linked = linked
        self.figures = {Path(path).stem for path in figures}

    def claim(self, claim_id: str) -> Claim:
        """Return one claim. Raises UserError naming an id that is not there."""
        try:
            return self.claims[claim_id]
        except KeyError:
            raise UserError(
                f"The article asks for the claim {claim_id!r}, which claims.json does not have. "
                "It should be one of the ids that joules.write.claims makes. Correct the id in "
                "paper/article.md.j2, or add the claim."
            ) from None

    def has(self, claim_id: str) -> bool:
        """Return whether there is such a claim, with a value."""
        claim = self.claims.get(claim_id)
        return claim is not None and claim.value is not None

    def value(self, claim_id: str) -> int | float | str | None:
        """Return the bare value of a claim."""
        return self.claim(claim_id).value

    def quantity(self, claim_id: str) -> int | float | None:
        """Return the bare value of a claim that is a number. Raises UserError for a text."""
        value = self.value(claim_id)
        if isinstance(value, str):
            raise UserError(
                f"The claim {claim_id!r} is {value!r}; the article prints a number there. Ask for "
                "it by `value` in paper/article.md.j2, or run the rule `claim` again."
            )
        return value

    def number(self, claim_id: str, unit: bool = True) -> str:
        """Return the value of a claim with three significant digits and, if asked, its unit."""
        claim = self.claim(claim_id)
        value, name = claim.value, claim.unit
        text = value if isinstance(value, str) else significant(value)
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value:,}"
        with_unit = unit and value is not None and name not in ("", "1")
        return self.link(claim_id, f"{text} {name}" if with_unit else text)

    def link(self, claim_id: str, text: str) -> str:
        """Return a number as a link to its claim, where links are asked for."""
        escaped = text.replace("<", "\\<")
        return f"[{escaped}](#claim-{claim_id})" if self.linked and text != NOTHING else text

    def interval(self, claim_id: str) -> str:
        """Return the interval of a claim as `[low, high]`, empty where it has none."""
        claim = self.claim(claim_id)
        low, high = claim.low, claim.high
        if low is None or high is None:
            return ""
        if claim_id.endswith((".ratio", ".ratio_to_best")):
            return f"[{low:.{RATIO_DECIMALS}f}, {high:.{RATIO_DECIMALS}f}]"
        return f"[{significant(low)}, {significant(high)}]"

    def ratio(self, claim_id: str) -> str:
        """Return a ratio with three decimals, so that `1.004` does not read as `1`."""
        value = self.quantity(claim_id)
        return NOTHING if value is None else self.link(claim_id, f"{value:.{RATIO_DECIMALS}f}")

    def p(self, claim_id: str) -> str:
        """Return a claim that is a p-value, formatted as one."""
        return self.link(claim_id, p_value(self.quantity(claim_id)))

    def percent(self, claim_id: str) -> str:
        """Return a claim that is a share of one, as a percentage."""
        return self.link(claim_id, percent(self.quantity(claim_id)))

    def pairs(self) -> list[Pair]:
        """Return every (model, runtime, runtime) that is compared, in the order of the study."""
        return [
            (model, first, second)
            for model in self.study.models
            for first, second in itertools.combinations(self.study.runtimes, 2)
        ]

    def cells(self) -> list[Cell]:
        """Return every (model, runtime), in the order of the study."""
        return list(itertools.product(self.study.models, self.study.runtimes))

    def ranked(self) -> list[Cell]:
        """Return the cells of each model, the least energy per token first, as far as ranked."""
        ranks = {
            (model.name, runtime.name): self.claims.get(
                f"rank.{model.name}.{runtime.name}.ratio_to_best"
            )
            for model, runtime in self.cells()
        }
        order = [model.name for model in self.study.models]

        def place(cell: Cell) -> tuple[int, float]:
            model, runtime = cell[0].name, cell[1].name
            ratio = ranks[model, runtime]
            return order.index(model), float(ratio.value or 0) if ratio else 0.0

        return sorted(self.cells(), key=place)

    def methods(self) -> list[str]:
        """Return the other methods of comparison, in the order of the claims."""
        ids = (name.split(".") for name in self.claims if name.startswith("sensitivity."))
        return list(dict.fromkeys(parts[-2] for parts in ids if len(parts) > 2))

    def methods_with(self, part: str) -> list[str]:
        """Return the methods that have the claim `part` (ratio, p_value) for any pair."""
        given = {name.rsplit(".", 2)[-2] for name in self.claims if self._has_method(name, part)}
        return [method for method in self.methods() if method in given]

    def _has_method(self, claim_id: str, part: str) -> bool:
        mine = claim_id.startswith("sensitivity.") and claim_id.endswith(f".{part}")
        return mine and self.has(claim_id)

    def labelled(self, text: str) -> str:
        """Return a sentence of the claims with runtimes' labels in the place of their names."""
        for runtime in self.study.runtimes:
            name = rf"(?<![\w./-]){re.escape(runtime.name)}(?![\w/-])"
            text = re.sub(name, lambda _, label=runtime.label: label, text)  # type: ignore[misc]
        return text

    def descriptions(self) -> list[str]:
        """Return what each runtime's module says of it, in the order of the study."""
        found = (runtimes.description_of(runtime.name) for runtime in self.study.runtimes)
        return [text for text in found if text]

    def limitations(self) -> list[str]:
        """Return the sentences on limits that one runtime alone has, in the order of the study."""
        return [
            text
            for runtime in self.study.runtimes
            for text in runtimes.limitations_of(runtime.name)
        ]

    def verdict(self, prefix: str) -> str:
        """Return the verdict of a comparison in words; `no claim` where none is permitted.

        `prefix` is `pair.{model}.{runtime_a}.{runtime_b}` or `control.{model}`.
        """
        claim = self.claim(f"{prefix}.verdict")
        permitted = self.permission.energy_difference and claim.may_be_stated
        verdict = str(claim.value)
        return verdict if permitted or verdict == "inconclusive" else "no claim"

    def verdict_counts(self) -> dict[str, int]:
        """Return how many comparisons of two runtimes got each verdict, the commonest first."""
        verdicts = [
            self.verdict(f"pair.{model.name}.{first.name}.{second.name}")
            for model, first, second in self.pairs()
        ]
        ordered = sorted(set(verdicts), key=lambda verdict: (-verdicts.count(verdict), verdict))
        return {verdict: verdicts.count(verdict) for verdict in ordered}

    def sentence(self, model: StudiedModel, first: StudiedRuntime, second: StudiedRuntime) -> str:
        """Return one comparison as a sentence that claims no more than its verdict."""
        prefix = f"pair.{model.name}.{first.name}.{second.name}"
        verdict, ratio = self.verdict(prefix), self.quantity(f"{prefix}.ratio")
        names = f"{first.label} and {second.label}"
        if ratio is None or verdict == "no claim":
            return f"{model.name}: no claim is made about {names}."
        evidence = (
            f"ratio {self.ratio(f'{prefix}.ratio')}, {percent(self.study.confidence)} interval "
            f"{self.interval(f'{prefix}.ratio')}, adjusted p {self.p(f'{prefix}.p_holm')}"
        )
        margin = percent(self.study.margin)
        if verdict.startswith("inconclusive"):
            return (
                f"{model.name}: {names} are not told apart. The comparison is inconclusive: it "
                f"shows neither a difference nor equivalence within {margin} ({evidence})."
            )
        if verdict.startswith("equivalent"):
            return f"{model.name}: {names} are equivalent within {margin} ({evidence})."
        less, more = (first, second) if ratio < 1 else (second, first)
        saving = percent(1 - min(ratio, 1 / ratio))
        small = ", a difference within the margin that is practically negligible"
        return (
            f"{model.name}: {less.label} needs {saving} less {self.energy_noun()} per token than "
            f"{more.label}{small if verdict != 'different' else ''} ({evidence})."
        )

    def findings(self) -> list[str]:
        """Return one sentence per pair of runtimes and kind of verdict, the models put together."""
        groups: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
        for model, first, second in self.pairs():
            prefix = f"pair.{model.name}.{first.name}.{second.name}"
            verdict, ratio = self.verdict(prefix), self.quantity(f"{prefix}.ratio")
            swap = verdict.startswith("different") and ratio is not None and ratio > 1
            a, b = (second, first) if swap else (first, second)
            saving = 0.0 if ratio is None else 1 - min(ratio, 1 / ratio)
            groups.setdefault((verdict, a.label, b.label), []).append((model.name, saving))
        sentences = []
        for (verdict, one, other), members in groups.items():
            models = listed([name for name, _ in members])
            least, most = (percent(bound(saving for _, saving in members)) for bound in (min, max))
            by = least if least == most else f"{least} to {most}"
            small = f", which is within the margin of {percent(self.study.margin)}"
            if verdict.startswith("different"):
                tail = small if verdict != "different" else ""
                energy = self.energy_noun()
                sentences.append(
                    f"{one} needs {by} less {energy} per token than {other} with {models}{tail}."
                )
            elif verdict.startswith("equivalent"):
                margin = percent(self.study.margin)
                sentences.append(f"{one} and {other} are equivalent within {margin} with {models}.")
            elif verdict == "no claim":
                sentences.append(f"No claim is made about {one} and {other} with {models}.")
            else:
                sentences.append(
                    f"The comparison of {one} and {other} is inconclusive with {models}."
                )
        return sentences

    def caveat(self) -> str:
        """Return what every caption must say about where its numbers come from; may be empty."""
        study, parts = self.study, []
        if study.tier == "estimated":
            parts.append("Energy is modelled, not measured.")
        elif study.tier == "sampled":
            parts.append("Energy is sampled power times time, not the reading of a counter.")
        if study.energy == "gpu":
            parts.append("Energy is that of the GPU alone.")
        if study.demonstration:
            parts.append(
                f"Demonstration study: the smallest possible p is {self.smallest_p()}, and the "
                "models were trained on the test set, so quality scores mean nothing."
            )
        return " ".join(parts)

    def energy_noun(self) -> str:
        """Return what the energy of a claim is called."""
        return "GPU energy" if self.study.energy == "gpu" else "energy"

    def smallest_p(self) -> str:
        """Return the smallest p-value that this number of blocks can give."""
        return p_value(self.permission.smallest_p)

    def figure(self, name: str, caption: str) -> str:
        """Return a figure in Markdown. Raises UserError when the figure was not made."""
        if name not in self.figures:
            raise UserError(
                f"The article shows the figure {name!r}; only {sorted(self.figures)} were given. "
                "Add a module of that name to workflow/scripts/joules/draw/figures/, or take the "
                "figure out of the text."
            )
        return f"![{' '.join(f'{caption} {self.caveat()}'.split())}](../figures/{name}.svg)"

    def caption(self, text: str) -> str:
        """Return the caption of a table in Markdown, with the caveat."""
        return f": {' '.join(f'{text} {self.caveat()}'.split())}"

    def context(self) -> dict[str, object]:
        """Return all names that the template may use."""
        names = "number interval ratio p percent value has claim "
        names += "verdict sentence caveat figure caption methods_with labelled"
        return {name: getattr(self, name) for name in names.split()} | {
            "study": self.study,
            "permission": self.permission,
            "published": self.published,
            "pairs": self.pairs(),
            "cells": self.cells(),
            "ranked": self.ranked(),
            "methods": self.methods(),
            "verdict_counts": self.verdict_counts(),
            "findings": self.findings(),
            "descriptions": self.descriptions(),
            "limitations": self.limitations(),
            "machine": msgspec.structs.asdict(self.study.machine),
            "smallest_p": self.smallest_p(),
            "energy_is": TIER_WORDS[self.study.tier],
            "confidence": percent(self.study.confidence),
            "margin": percent(self.study.margin),
            "terms": TERMS,
            "share": percent,
            "significant": significant,
            "listed": listed,
            "words": words,
            "counted": counted,
        }
