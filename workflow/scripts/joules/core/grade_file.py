"""The grade of one run, as it is stored."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from joules.core.values import RunKind, Sha256, Stored

SCHEMA: Final = 1

VerdictName = Literal["passed", "failed", "syntax", "no_code", "timeout", "memory", "crashed"]


class SandboxLimits(Stored, frozen=True):
    """What one program may use."""

    cpu_s: Annotated[float, Meta(description="CPU time in seconds; it decides `timeout`.")]
    wall_s: Annotated[float, Meta(description="Time in seconds; it guards against sleeping.")]
    memory_bytes: Annotated[int, Meta(description="Memory.")]


class SandboxFacts(Stored, frozen=True, kw_only=True):
    """What confined the programs, on the machine that graded."""

    mechanism: Annotated[str, Meta(description="The layers of confinement, joined by `+`.")]
    kernel: Annotated[str, Meta(description="Its release.")]
    machine: Annotated[str, Meta(description="For example x86_64.")]
    landlock_abi: Annotated[int, Meta(description="Version of Landlock that was used.")]
    bubblewrap: Annotated[str, Meta(description="Whether it was used, and why not.")]
    python: Annotated[str, Meta(description="Version of the Python that ran the programs.")]
    numpy: Annotated[str | None, Meta(description="Its version; null where programs had none.")] = (
        None
    )
    limits: Annotated[SandboxLimits, Meta(description="What one program may use.")]
    scratch_bytes: Annotated[
        int,
        Meta(description="Size of each program's scratch folder; 0 where it could write nothing."),
    ] = 0
    probes: Annotated[
        dict[str, str], Meta(description="Per attempt to break out: `refused`, or how it went.")
    ]


class Gates(Stored, frozen=True):
    """Answers of our own that were graded beside the model's; else nothing is counted."""

    reference_passed: Annotated[int, Meta(description="Reference solutions that passed: all.")]
    empty_passed: Annotated[int, Meta(description="Empty answers that passed: none.")]


class GradedTask(Stored, frozen=True):
    """The verdict on one answer."""

    task_id: Annotated[str, Meta(description="For example HumanEval/0.")]
    verdict: Annotated[VerdictName, Meta(description="The outcome.")]
    reason: Annotated[str, Meta(description="Why; empty where the verdict says it.")]
    rule: Annotated[str, Meta(description="How the program was found, joined by `+`.")]
    truncated: Annotated[bool, Meta(description="Whether the answer ended at its token limit.")]


class Grade(Stored, frozen=True, kw_only=True):
    """The grade of one run: a verdict for each of its answers. Written by rule `grade`."""

    schema: Annotated[Literal[1], Meta(description="Version of this contract.")]
    study: Annotated[str, Meta(description="Of the record.")]
    campaign: Annotated[str, Meta(description="Of the record.")]
    model: Annotated[str, Meta(description="Name of the record's model.")]
    runtime: Annotated[str, Meta(description="Name of the record's runtime.")]
    kind: Annotated[RunKind, Meta(description="Of the record.")]
    repetition: Annotated[int, Meta(ge=1, description="Of the record.")]
    sandbox: Annotated[SandboxFacts, Meta(description="What confined the programs.")]
    dataset_sha256: Annotated[Sha256, Meta(description="Of HumanEval's file of problems.")]
    nonce: Annotated[
        str | None,
        Meta(
            description="Random text that seeded what the tests draw; the same repeats the grade. "
            "Null in older grades, whose seed was 0."
        ),
    ] = None
    gates: Annotated[
        Gates | None,
        Meta(description="Answers of our own that were graded beside; null in older grades."),
    ] = None
    tasks: Annotated[list[GradedTask], Meta(description="In the order of the record.")]
    passed: Annotated[int, Meta(ge=0, description="Answers that passed.")]
    total: Annotated[int, Meta(ge=0, description="Answers.")]
    pass_at_1: Annotated[float | None, Meta(description="passed / total; null without answers.")]
