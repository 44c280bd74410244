"""What the article's template may ask for: numbers from the claims, in words that they permit.

No number of a result is typed into the template. It asks for claims by id, and an id that is not
there is an error. The words follow the data: `modelled` where nothing was measured, `open` where
the data decide nothing, and `no claim` where the claims file does not permit one.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from joules import runtimes
from joules.core.analysis import NO_CLAIM
from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.values import STATED_ONLY
from joules.core.wording import counted, listed, p_value, percent, significant, words
from joules.write.arm_sentences import MOST_IN_DETAIL, ArmSentences, said
from joules.write.claims_file import (
    Claims,
    FlaggedRun,
    StudiedModel,
    StudiedRuntime,
    StudyFacts,
)
from joules.write.kernels import kernel_sentences
from joules.write.published_article import PublishedArticle
from joules.write.sentences import Pair, pair_prefix

TIER_WORDS = {"measured": "measured", "sampled": "sampled", "estimated": "modelled"}
# Terms of the field with a digit in them; the Results section of the template holds none.
TERMS = {"pass_at_1": "pass@1", "co2e": "CO₂e"}

# What an explaining ratio answers, in the order of the table.
QUESTIONS_OF_RATIOS = {
    "energy_j_per_token": ("Energy per token", "the headline"),
    "power_w": ("Mean power", "how hard the machine worked"),
    "seconds_per_token": ("Time per token", "how long a token took"),
    "duration_s": ("Time of a run", "how long all tasks took"),
    "generated_tokens": ("Generated tokens", "how much was written"),
    "energy_j_per_task": ("Energy per task", "what a task cost, however long its answer"),
    "gross_energy_j_per_token": ("Gross energy per token", "with flush prompts and bookkeeping"),
    "net_energy_j_per_token": ("Net energy per token", "without what the idle machine draws"),
    "energy_with_dram_j_per_token": ("With memory, per token", "with what the memory counts"),
    "equal_text_energy_j_per_token": ("At equal text, per token", "the same output of both"),
}

Cell = tuple[StudiedModel, StudiedRuntime]


def _is_distrusted(run: FlaggedRun) -> bool:
    return any(code not in STATED_ONLY for code in run.codes)


class Article(ArmSentences):
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
        super().__init__(claims, linked)
        self.published = published
        self.figures = {Path(path).stem for path in figures}

    def cells(self) -> list[Cell]:
        """Return every (model, runtime), in the order of the study."""
        return list(itertools.product(self.study.models, self.study.runtimes))

    def ranked(self) -> list[Cell]:
        """Return the cells that have a rank, the least energy per token first."""
        ranks = {
            (model.name, runtime.name): self.claims.get(f"rank.{model.name}.{runtime.name}.rank")
            for model, runtime in self.cells()
        }
        order = [model.name for model in self.study.models]

        def place(cell: Cell) -> tuple[int, float]:
            rank = ranks[cell[0].name, cell[1].name]
            known = rank is not None and rank.value is not None
            return order.index(cell[0].name), float(rank.value) if known else math.inf  # type: ignore

        there = [cell for cell in self.cells() if ranks[cell[0].name, cell[1].name] is not None]
        return sorted(there, key=place)

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

    def descriptions(self) -> list[str]:
        """Return what each runtime's module says of it, once, in the order of the study."""
        found = (runtimes.description_of(module) for module in self.module_names())
        return [text for text in found if text]

    def limitations(self) -> list[str]:
        """Return the sentences on limits that one runtime alone has, in the order of the study."""
        return [text for module in self.module_names() for text in runtimes.limitations_of(module)]

    def trials(self, about: str) -> list[str]:
        """Return what each runtime's module says of trial runs of our own, on one matter."""
        found = (runtimes.trials_of(module).get(about) for module in self.module_names())
        return list(dict.fromkeys(text for text in found if text))

    def verdict_counts(self) -> dict[str, int]:
        """Return how many primary comparisons got each verdict, the commonest first."""
        verdicts = [self.verdict(pair_prefix(pair)) for pair in self.primary_pairs()]
        ordered = sorted(set(verdicts), key=lambda verdict: (-verdicts.count(verdict), verdict))
        return {verdict: verdicts.count(verdict) for verdict in ordered}

    def compared(self) -> list[tuple[str, str]]:
        """Return what is compared, each with the group of its claims, as far as it is there."""
        wanted = {"pair": "token", "fixed": "token, equal length", "correct": "correct answer"}
        there = {name.split(".", 1)[0] for name in self.claims}
        if self.study.energy == WALL:  # that of a correct answer is over problems
            wanted.pop("correct")
        return [(what, group) for group, what in wanted.items() if group in there]

    def explained(self) -> list[tuple[str, str, str]]:
        """Return the explaining quantities that any pair has, in words, with what they answer."""
        there = {name.rsplit(".", 1)[-1] for name in self.claims if name.startswith("explains.")}
        return [(key, *words_) for key, words_ in QUESTIONS_OF_RATIOS.items() if key in there]

    def distrusted_runs(self) -> int:
        """Return how many runs broke a rule that is a ground to distrust them."""
        return sum(not run.valid or _is_distrusted(run) for run in self.study.invalid_runs)

    def distrusted_in_use(self) -> Counter[str]:
        """Return how many of these runs of each kind count as valid all the same."""
        runs = self.study.invalid_runs
        return Counter(run.kind for run in runs if run.valid and _is_distrusted(run))

    def only_stated(self) -> list[str]:
        """Return in words what is stated of any run without being a ground to distrust it."""
        found = {code for run in self.study.invalid_runs for code in run.codes}
        return [code.replace("_", " ") for code in STATED_ONLY if code in found]

    def broken(self) -> list[tuple[StudiedModel, StudiedRuntime, str]]:
        """Return every model, runtime and rule that one of its runs broke."""
        found = []
        for model, runtime in self.cells():
            start = f"broken.{model.name}.{runtime.name}."
            names = [name.removeprefix(start) for name in self.claims if name.startswith(start)]
            # A code has no dot: one there is `.counted`, or the rest of a longer arm's name.
            found += [(model, runtime, code) for code in names if "." not in code]
        return found

    def blocks_left_out(self, pair: Pair) -> str:
        """Return which blocks a comparison could not use, and why, in words."""
        reasons = {
            "split_blocks": "two sessions",
            "mixed_blocks": "two machines or builds",
            "invalid_blocks": "invalid",
            "flagged_blocks": "flagged",
        }
        prefix = pair_prefix(pair)
        found = [
            f"{str(self.value(f'{prefix}.{name}')).replace(';', ', ')} ({why})"
            for name, why in reasons.items()
            if self.claims.get(f"{prefix}.{name}") and self.value(f"{prefix}.{name}")
        ]
        return "; ".join(found) or "none"

    def yearly_sentences(self) -> list[str]:
        """Return what each claimed difference amounts to in the stated use; many are left out."""
        found = [self.yearly(pair) for pair in self.primary_pairs()]
        stated = [sentence for sentence in found if sentence]
        return stated if len(stated) <= MOST_IN_DETAIL else []

    def _has_phases(self, cell: Cell) -> bool:
        prefix = f"cell.{cell[0].name}.{cell[1].name}"
        names = ("decode_power_w", "prefill_power_w", "direct_prefill_j_per_token")
        return any(self.has(f"{prefix}.{name}") for name in names)

    def _has_problems(self, pair: Pair) -> bool:
        return f"{pair_prefix(pair, 'correct')}.ratio" in self.claims

    def _is_approximate(self, pair: Pair) -> bool:
        return self.has(f"{pair_prefix(pair, 'correct')}.approximate") and (
            self.value(f"{pair_prefix(pair, 'correct')}.approximate") == "yes"
        )

    def kernels(self) -> list[str]:
        """Return how the runtimes' engines differ by what each says of itself."""
        return kernel_sentences(self.study.runtimes)

    def caveat(self) -> str:
        """Return what every caption must say about where its numbers come from; may be empty."""
        study, parts = self.study, []
        if study.tier == "estimated":
            parts.append("Energy is modelled, not measured.")
        elif study.tier == "sampled":
            parts.append("Energy is sampled power times time, not the reading of a counter.")
        if study.energy == "gpu":
            parts.append("Energy is that of the GPU alone.")
        if study.energy == WALL:
            parts.append("Energy is that of the whole machine, by a meter at the wall.")
        if study.is_emulated:
            parts.append("The meter is emulated: no real power was measured.")
        if not self.permission.energy_difference:
            parts.append("No difference in energy is claimed.")
        if study.demonstration:
            parts.append(
                f"Demonstration study: the smallest possible p is {self.smallest_p()}, and the "
                "models were trained on the test set, so quality scores mean nothing."
            )
        return " ".join(parts)

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
        names = "number quantity interval share_interval ratio p percent value has claim labelled "
        names += "verdict shown_verdict apart sentence reason power_times_time control_found "
        names += "blocks_left_out caveat figure caption methods_with named family trials"
        values = (
            "pairs primary_pairs told_pairs contrasts secondary_note compared_words installed told "
        )
        values += (
            "settings_sentences settings_rows chosen_rows software_rows answers builds why_texts"
        )
        return {name: getattr(self, name) for name in names.split()} | {
            **{name: getattr(self, name)() for name in values.split()},
            "study": self.study,
            "wall": self.study.wall_meter,
            "by_wall": self.study.energy == WALL,
            "permission": self.permission,
            "published": self.published,
            "labels": said(self.study.runtimes),
            "compared": self.compared(),
            "explained": self.explained(),
            "broken": self.broken(),
            "distrusted_runs": self.distrusted_runs(),
            "distrusted_in_use": self.distrusted_in_use(),
            "only_stated": self.only_stated(),
            "kernels": self.kernels(),
            "detailed": len(self.told_pairs()) <= MOST_IN_DETAIL,
            "most_in_detail": MOST_IN_DETAIL,
            "no_claim": NO_CLAIM,
            "phased": [cell for cell in self.cells() if self._has_phases(cell)],
            "problems": [pair for pair in self.told_pairs() if self._has_problems(pair)],
            "approximate": any(self._is_approximate(pair) for pair in self.pairs()),
            "any_apart": any(self.apart(pair_prefix(pair)) for pair in self.pairs()),
            "yearly_sentences": self.yearly_sentences(),
            "cells": self.cells(),
            "ranked": self.ranked(),
            "methods": self.methods(),
            "verdict_counts": self.verdict_counts(),
            "findings": self.findings(self.primary_pairs()),
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
