"""Numbers of the claims as the article prints them, each by the id of its claim."""

import re

from joules.core.errors import UserError
from joules.core.wording import NOTHING, p_value, percent, significant
from joules.write.arm_words import in_sentence
from joules.write.claims_file import Claim, Claims, StudyFacts

RATIO_DECIMALS = 3
RATIO_ENDS = (".ratio", ".ratio_to_best", ".ratio_simultaneous", ".minimum_ratio")
RATIO_GROUPS = ("explains.", "problems.")


class Numbers:
    """Asks for claims by id; an id that is not there is an error."""

    def __init__(self, claims: Claims[StudyFacts], linked: bool = False) -> None:
        self.study = claims.study
        self.permission = claims.permission
        self.claims = claims.claims
        self.linked = linked

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
        if claim_id.endswith(RATIO_ENDS) or claim_id.startswith(RATIO_GROUPS):
            return f"[{low:.{RATIO_DECIMALS}f}, {high:.{RATIO_DECIMALS}f}]"
        return f"[{significant(low)}, {significant(high)}]"

    def share_interval(self, claim_id: str) -> str:
        """Return the interval of a share of one as percentages, empty where it has none."""
        claim = self.claim(claim_id)
        if claim.low is None or claim.high is None:
            return ""
        return f"[{percent(claim.low)}, {percent(claim.high)}]"

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

    def labelled(self, text: str) -> str:
        """Return a sentence of the claims with labels in the place of the names of arms.

        In one pass and the longest first: a name within another one, or within a label, stays.
        """
        labels = [runtime.label for runtime in self.study.runtimes]
        said = dict(zip(labels, map(in_sentence, labels), strict=True))
        said |= {runtime.name: in_sentence(runtime.label) for runtime in self.study.runtimes}
        longest_first = sorted(said, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first))
        return re.sub(rf"(?<![\w./-])(?:{names})(?![\w/-])", lambda found: said[found[0]], text)
