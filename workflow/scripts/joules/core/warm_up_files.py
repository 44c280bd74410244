"""What rules `warm_up` and `agree` find out before anything is measured, as it is stored."""

from typing import Annotated

from msgspec import Meta, field

from joules.core.arms import ArmFacts
from joules.core.inference import Facts, FinishReason, Scalar, Settings
from joules.core.values import Stored


class WarmUpAnswer(Stored, frozen=True, kw_only=True):
    """One answer of a warm-up: what the runtime returned, and how long it took."""

    task_id: Annotated[str, Meta(description="For example HumanEval/0.")]
    duration_s: Annotated[float, Meta(description="From asking to the whole answer.")]
    text: Annotated[str, Meta(description="As generated, not cut.")]
    prompt_tokens: Annotated[int, Meta(description="As the runtime reported.")]
    generated_tokens: Annotated[int, Meta(description="Tokens sampled, end of text included.")]
    prefill_s: Annotated[
        float | None, Meta(description="To the first token; null where not known.")
    ]
    decode_s: Annotated[float, Meta(description="From the first token to the last.")]
    finish_reason: Annotated[FinishReason, Meta(description="Why the answer ended.")]
    counts_known: Annotated[
        bool, Meta(description="Whether the runtime reported token counts.")
    ] = True
    overhead_s: Annotated[
        float | None, Meta(description="The rest of the call; null where not told apart.")
    ] = None
    load_s: Annotated[
        float | None,
        Meta(description="Older warm-ups. What a runtime calls loading, which is overhead."),
    ] = None


class WarmUp(Stored, frozen=True, kw_only=True):
    """Proof that one model on one arm works. Written by rule `warm_up`."""

    model: Annotated[str, Meta(description="Its name in config/models.yaml.")]
    arm: Annotated[ArmFacts, Meta(description="What was tried.")]
    runtime: Annotated[str, Meta(description="Its module in joules/runtimes.")]
    protocol: Annotated[str, Meta(description="How prompts were made and cut.")]
    never_ends: Annotated[
        bool, Meta(description="Whether the model is said never to end an answer by itself.")
    ] = False
    facts: Annotated[
        Facts,
        Meta(description="Versions, commits, hashes and build facts of the runtime; keys differ."),
    ]
    settings: Annotated[Settings, Meta(description="The settings asked for.")]
    settings_in_force: Annotated[
        dict[str, Scalar | list[int]],
        Meta(description="Of those, what the runtime shows; the rest is unobservable."),
    ]
    cannot_hold: Annotated[list[str], Meta(description="Settings that it cannot honour.")]
    load_s: Annotated[float, Meta(description="Time to start it and load the weights.")]
    tokens_per_s: Annotated[float, Meta(description="Generated tokens over the answers' time.")]
    answers: Annotated[list[WarmUpAnswer], Meta(description="In the order answered.")]


class TextDifference(Stored, frozen=True):
    """Where two runtimes' answers to one prompt part."""

    task_id: Annotated[str, Meta(description="For example HumanEval/0.")]
    character: Annotated[int, Meta(ge=0, description="First that differs, from 0.")]


class AgreementPair(Stored, frozen=True, kw_only=True):
    """How the answers of two arms compare; engines round differently, so texts may differ."""

    runtime_a: Annotated[str, Meta(description="The one.")]
    runtime_b: Annotated[str, Meta(description="The other.")]
    prompts: Annotated[int, Meta(description="Prompts that both answered.")]
    same_text: Annotated[int, Meta(description="Answers with the same text.")]
    same_text_share: Annotated[float, Meta(description="Of the prompts.")]
    first_difference: Annotated[
        list[TextDifference], Meta(description="Per answer with another text.")
    ]
    same_counts: Annotated[int, Meta(description="Answers with the same number of tokens.")]


class Agreement(Stored, frozen=True, kw_only=True):
    """Whether the arms read the same prompts of one model. Written by rule `agree`."""

    model: Annotated[str, Meta(description="Its name in config/models.yaml.")]
    protocol: Annotated[str, Meta(description="How prompts were made and cut.")]
    runtimes: Annotated[list[str], Meta(description="The arms that were compared, by name.")]
    settings: Annotated[Settings, Meta(description="The settings that the first was asked for.")]
    settings_by_arm: Annotated[
        dict[str, Settings],
        Meta(
            description="The settings that each arm was asked for. Empty in older files: all were "
            "asked for the same."
        ),
    ] = field(default_factory=dict)
    passed: Annotated[bool, Meta(description="Whether there is no problem.")]
    problems: Annotated[
        list[str],
        Meta(description="Unequal prompt counts, empty answers, other settings; in words."),
    ]
    pairs: Annotated[list[AgreementPair], Meta(description="Each pair of arms.")]
