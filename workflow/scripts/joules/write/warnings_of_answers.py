"""What looks wrong with the answers, so that somebody looks at the prompt or the extraction."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from joules.write.claims_file import AnswerWarning
from joules.write.published_scores import PublishedShare

FAR_FROM_PUBLISHED = 0.08  # of pass@1
ODD_SHARE = 0.05  # of answers


def warnings_of_answers(
    cells: pd.DataFrame, verdicts: pd.DataFrame, published: Mapping[str, PublishedShare]
) -> list[AnswerWarning]:
    """Return what looks wrong with the answers: one entry per gate, model and runtime.

    A score is far from the published one when they differ by more than 8 points and the published
    one lies outside the 95 % interval of ours (which 4-bit weights alone do not explain: they move
    it by some 2.5 points). More than 5 % of answers cut at the limit, ended by the runtime, or
    without a program are worth a look: the prompt or the extraction may be wrong.
    """
    found = []

    def warn(gate: str, row: Any, seen: float, limit: float, text: str) -> None:
        found.append(AnswerWarning(gate, row.model, row.runtime, float(seen), limit, text))

    for row in cells[cells["kind"] == "task"].itertuples():
        where = f"{row.model} on {row.runtime}"
        entry = published.get(str(row.model))
        if entry and pd.notna(row.pass_at_1):
            score = entry.pass_at_1
            outside = not row.pass_low <= score <= row.pass_high
            if outside and abs(row.pass_at_1 - score) > FAR_FROM_PUBLISHED:
                text = (
                    f"{where} has pass@1 {100 * row.pass_at_1:.1f} %, far from the published "
                    f"{100 * score:.1f} % ({entry.source})."
                )
                warn("published_score", row, row.pass_at_1, score, text)
        for gate, share, words in (
            ("truncated", row.truncated_share, "were cut at the token limit"),
            ("aborted", row.aborted_share, "were ended by the runtime"),
        ):
            if pd.notna(share) and share > ODD_SHARE:
                text = f"{where}: {100 * share:.1f} % of answers {words}; more than 5 % is odd."
                warn(gate, row, share, ODD_SHARE, text)
    for row in verdicts[verdicts["label"] == "no_code"].itertuples():
        if row.share > ODD_SHARE:
            text = f"{row.model} on {row.runtime}: {100 * row.share:.1f} % of answers hold no "
            text += "program; more than 5 % is odd."
            warn("no_code", row, row.share, ODD_SHARE, text)
    return found
