"""The types of claims.json: every number of the article, what may be said, and the study's facts.

Energies are in joule, times in second, power in watt. What does not exist is null.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.files import read_json, write_json
from joules.core.inference import Options, Scalar
from joules.core.permission import Permission
from joules.core.record import ModelFacts, RuntimeFacts
from joules.core.study import Carbon
from joules.core.values import EnergyChoice, RunKind, Stored
from joules.core.wording import listed

StatedTier = Literal["measured", "sampled", "estimated", "unstated"]


class Claim(Stored, frozen=True, kw_only=True):
    """One number, and the table and row that it comes from.

    `low` and `high` are the ends of its interval, `n` is what it is a mean or share of, `tier` that
    of the energy in it. `claimable` says of a comparison whether the article may state it as a
    finding.
    """

    value: int | float | str | None
    unit: str
    low: float | None
    high: float | None
    n: int | None
    tier: str | None
    source: str
    claimable: bool | UnsetType = UNSET

    @property
    def may_be_stated(self) -> bool:
        """Whether it may be stated as a finding; a number that is no comparison always may."""
        return self.claimable is not False


class AnswerWarning(Stored, frozen=True):
    """What looks wrong with the answers of a model on a runtime, by one gate."""

    gate: str
    model: str
    runtime: str
    seen: float
    limit: float
    text: str


class NamedModel(Stored, frozen=True):
    """A model of which nothing but its name is known."""

    name: str


class LabelledRuntime(Stored, frozen=True):
    """A runtime of which nothing but its name and label is known."""

    name: str
    label: str


class StudiedModel(ModelFacts, frozen=True):
    """A model as its records describe it."""

    prompt_style: str


class StudiedArm(Stored, frozen=True, kw_only=True):
    """What an arm is, in a study that names arms.

    `stated` are the settings and `options` the options that differ from the study's. `asked` are
    all settings that were asked for: null is the runtime's own choice, of which `in_force` holds
    what the runtime shows.
    """

    runtime: str
    runtime_label: str
    as_installed: bool
    stated: dict[str, Scalar]
    options: Options
    asked: dict[str, Scalar]
    in_force: dict[str, Scalar]


class StudiedRuntime(RuntimeFacts, frozen=True):
    """One of those that are compared, as its records describe it.

    `name` and `label` are those of the arm: the runtime's own where the study names no arms.
    `unobservable` are settings that it does not show.
    """

    version: str
    unobservable: list[str]
    arm: StudiedArm | UnsetType = UNSET

    @property
    def module(self) -> str:
        """The name of its runtime's module."""
        return self.arm.runtime if isinstance(self.arm, StudiedArm) else self.name

    @property
    def runtime_label(self) -> str:
        """Its runtime as the article prints it."""
        return self.arm.runtime_label if isinstance(self.arm, StudiedArm) else self.label

    @property
    def as_installed(self) -> bool:
        """Whether the runtime chose its settings itself."""
        return isinstance(self.arm, StudiedArm) and self.arm.as_installed

    @property
    def holds_equal(self) -> bool:
        """Whether it claims all settings of the study."""
        return not isinstance(self.arm, StudiedArm) or not (
            self.arm.as_installed or self.arm.stated
        )


class Machine(Stored, frozen=True, kw_only=True):
    """The machine as the article states it; `memory_gb` is in 10^9 bytes."""

    architecture: str
    cores: int | None
    cpu: str
    governors: list[str]
    gpu: str = "none seen"
    kernel: str
    memory_gb: float
    os: str
    threads: int | None
    usable_cores: int
    virtualisation: str


class FlaggedRun(Stored, frozen=True):
    """A run that broke a rule, and whether it counts all the same."""

    model: str
    runtime: str
    kind: RunKind
    block: int
    valid: bool
    codes: list[str]


class InvalidAttempt(Stored, frozen=True):
    """A rule that an attempt at a run broke; the attempt lies beside its record."""

    model: str
    runtime: str
    kind: RunKind
    block: int
    attempt: int
    started: str | None
    code: str | None
    seen: Scalar
    limit: Scalar


class Check(Stored, frozen=True):
    """A rule, in how many runs it was looked at, and how many broke it."""

    code: str
    limit: Scalar
    runs: int
    broken: int


class HeldSetting(Stored, frozen=True):
    """A setting, what was asked, and how each runtime held it."""

    setting: str
    asked: Scalar
    runtimes: dict[str, str]


class ContestedProblems(Stored, frozen=True):
    """Problems whose prompt or tests are contested, and who says so."""

    problems: list[str]
    source: str


class WallFacts(Stored, frozen=True, kw_only=True):
    """The meter of the whole machine, as its records describe it.

    `counts`: it counts energy, and does not tell power alone. `processor_tier` is that of the
    processor's energy beside it.
    """

    module: str
    label: str
    description: str
    model: str
    firmware: str
    emulated: bool
    counts: bool
    every_s: float
    resolution_j: float | None
    update_interval_s: float | None
    processor_tier: str | None
    gap_time_limit: float | None


class ComparedStudy(Stored, frozen=True, kw_only=True):
    """What a table of runs alone can say of a study."""

    name: str
    demonstration: bool
    tier: StatedTier
    energy: EnergyChoice = "processor"
    models: Sequence[NamedModel]
    runtimes: Sequence[LabelledRuntime]
    control_runtime: str | None
    kinds: list[RunKind]
    blocks: int
    runs: int
    valid_runs: int
    confidence: float
    alpha: float
    margin: float
    verdict_labels: list[str] = []
    rules: list[str] = []
    warnings: list[AnswerWarning] = []
    wall: WallFacts | UnsetType = UNSET

    @property
    def wall_meter(self) -> WallFacts | None:
        """The meter of the whole machine; None without one."""
        return None if isinstance(self.wall, UnsetType) else self.wall

    @property
    def is_emulated(self) -> bool:
        """Whether the headline is told by a meter that says itself that it is no real one."""
        return self.energy == WALL and self.wall_meter is not None and self.wall_meter.emulated


class Mix(Stored, frozen=True):
    """What the runs of a study do not share, where the configuration has it stated."""

    what: str
    variants: list[str]


class RegistrationFacts(Stored, frozen=True, kw_only=True):
    """The plan that was registered before the first run, and whether the analysis holds to it.

    `differs` names in words what is analysed and was not registered so. `sha256` and
    `registered_on` (UTC, ISO 8601) are None where nothing was registered.
    """

    sha256: str | None = None
    registered_on: str | None = None
    confirmatory: bool = False
    differs: list[str] = []

    @property
    def standing(self) -> str:
        """What kind of result it is, and why, for the end of a sentence."""
        if self.confirmatory:
            return "confirmatory"
        if self.sha256 is None:
            return "exploratory, because no plan was registered before the first run"
        return (
            "exploratory, because the analysis differs from the registered plan in "
            f"{listed(self.differs)}"
        )


NOT_REGISTERED = RegistrationFacts()


class StudyFacts(ComparedStudy, frozen=True, kw_only=True):
    """What the article says of the study itself."""

    models: Sequence[StudiedModel]  # type: ignore[assignment]
    runtimes: Sequence[StudiedRuntime]  # type: ignore[assignment]
    campaign: str
    tier_reason: str
    instrument: dict[str, str]
    instrument_versions: int
    mixes: list[Mix] = []
    registration: RegistrationFacts = NOT_REGISTERED
    seed: int
    problems: int | None
    invalid_runs: list[FlaggedRun]
    unsettled_runs: int
    questions: dict[RunKind, str]
    attempts: list[InvalidAttempt]
    checks: list[Check]
    cannot_hold: list[HeldSetting]
    contested: ContestedProblems
    machine: Machine
    settings: dict[str, Scalar]
    max_tokens: Scalar
    software: dict[str, str]
    measured_on: str
    carbon: Carbon


StudyType = TypeVar("StudyType", bound=ComparedStudy)


class Claims(Stored, Generic[StudyType], frozen=True):
    """The content of claims.json."""

    study: StudyType
    permission: Permission
    claims: dict[str, Claim]


def write_claims(path: str | Path, claims: Claims[StudyType]) -> None:
    """Write claims.json, whole or not at all."""
    write_json(path, msgspec.to_builtins(claims))


def read_claims(path: str | Path) -> Claims[StudyFacts]:
    """Return what claims.json holds. Raises UserError that names what is missing or wrong in it."""
    try:
        return msgspec.convert(read_json(path), Claims[StudyFacts])
    except msgspec.ValidationError as error:
        raise UserError(
            f"{path} is not what the article needs: {error}. Expected study, permission and claims "
            "as rule `claim` writes them. Run that rule again."
        ) from error
