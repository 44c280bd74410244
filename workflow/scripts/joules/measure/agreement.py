"""Whether the arms read the same prompts of a model, shown before it is measured."""

import dataclasses
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

from joules.core import stored
from joules.core.errors import UserError
from joules.core.inference import Settings
from joules.core.warm_up_files import Agreement, AgreementPair, TextDifference, WarmUp
from joules.measure.preparation import check_require


def check_fixed(warm_ups: Sequence[WarmUp], kinds: Collection[str]) -> None:
    """Raise UserError where kind `fixed` is asked of a runtime that cannot ignore the end of text.

    A model whose catalogue entry says `never_ends` may be asked all the same. Raises UserError
    too when such a model was seen to end an answer.
    """
    for seen in warm_ups:
        ended = [each.task_id for each in seen.answers if each.finish_reason == "eos"]
        if seen.never_ends and ended:
            raise UserError(
                f"{seen.model} says `never_ends` in config/models.yaml, but on "
                f"{seen.arm.name} it ended its answer to {', '.join(ended)}. Expected answers "
                "of `settings.max_tokens` tokens. Take `never_ends` out of its entry."
            )
        ignore_eos = "fixed" in kinds and not seen.never_ends
        settings = dataclasses.replace(seen.settings, ignore_eos=ignore_eos)
        check_require(seen.runtime, [], settings)


def first_difference(a: str, b: str) -> int | None:
    """Return the first character at which two texts differ; None when they are equal."""
    if a == b:
        return None
    return next(
        (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
        min(len(a), len(b)),
    )


def agree(warm_ups: Sequence[WarmUp]) -> Agreement:
    """Compare the warm-ups of one model across arms.

    Unequal prompt counts, an empty answer, and different settings of arms that state none of their
    own are problems. Different texts are written down and never fatal: engines round differently.
    """
    reference = warm_ups[0]
    problems = _unequal_settings(warm_ups)
    for seen in warm_ups:
        for answer, expected in zip(seen.answers, reference.answers, strict=True):
            if answer.prompt_tokens != expected.prompt_tokens:
                problems.append(
                    f"{answer.task_id}: {seen.arm.name} read {answer.prompt_tokens} prompt "
                    f"tokens, {reference.arm.name} {expected.prompt_tokens}"
                )
            if answer.text == "":
                problems.append(f"{answer.task_id}: {seen.arm.name} answered nothing")
    return Agreement(
        model=reference.model,
        protocol=reference.protocol,
        runtimes=[seen.arm.name for seen in warm_ups],
        settings=reference.settings,
        settings_by_arm={seen.arm.name: seen.settings for seen in warm_ups},
        passed=not problems,
        problems=problems,
        pairs=[pair_of(a, b) for a, b in combinations(warm_ups, 2)],
    )


def _unequal_settings(warm_ups: Sequence[WarmUp]) -> list[str]:
    """Return where arms that state no settings of their own ran with different ones."""
    equal = [seen for seen in warm_ups if seen.arm.settings == {}]
    return [
        f"{seen.arm.name} ran with other settings than {equal[0].arm.name}"
        for seen in equal[1:]
        if seen.settings != equal[0].settings
    ]


def pair_of(a: WarmUp, b: WarmUp) -> AgreementPair:
    """Return how the answers of two warm-ups compare."""
    both = list(zip(a.answers, b.answers, strict=True))
    differences = [
        TextDifference(x.task_id, character)
        for x, y in both
        if (character := first_difference(x.text, y.text)) is not None
    ]
    same_text = len(both) - len(differences)
    return AgreementPair(
        runtime_a=a.arm.name,
        runtime_b=b.arm.name,
        prompts=len(both),
        same_text=same_text,
        same_text_share=same_text / len(both),
        first_difference=differences,
        same_counts=sum(x.generated_tokens == y.generated_tokens for x, y in both),
    )


def check_agreement(path: Path, arm: str, settings: Settings) -> None:
    """Raise UserError unless the arms were shown to agree, this one among them."""
    if not path.exists():
        raise UserError(
            f"{path} is missing. It shows that the arms read the same prompts, and must exist "
            f"before anything is measured. Make it: snakemake --cores 1 {path}"
        )
    agreement = stored.read_agreement(path)
    if not agreement.passed:
        raise UserError(
            f"{path} says that the arms do not agree: {'; '.join(agreement.problems)}. "
            "Mend that first; measuring would compare different things."
        )
    if arm not in agreement.runtimes:
        raise UserError(
            f"{path} does not name the arm {arm}. Make it again: "
            f"snakemake --cores 1 --forcerun agree -- {path}"
        )
    asked = dataclasses.replace(settings, ignore_eos=False)
    tried = agreement.settings_by_arm.get(arm, agreement.settings)
    if tried != asked:
        raise UserError(
            f"{path} was made with other settings of {arm} ({tried}; now {asked}). "
            f"Make it again: snakemake --cores 1 --forcerun warm_up -- {path}"
        )
