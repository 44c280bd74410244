"""What every energy meter is, and what it gives."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from joules.core.inference import Facts, Options


@dataclasses.dataclass(frozen=True)
class Channel:
    """One number that a meter reads.

    Attributes:
        component: what its energy belongs to: wall, cpu, gpu, dram, psys, soc or battery.
        name: how it is called in messages and in records of validity.
        source: the file or device that it is read from.
        range_j: joules after which it starts again at 0; None where that is not known.
        power_limit_w: the most that the device lets itself draw; None where it does not say.
    """

    component: str
    name: str
    source: str
    range_j: float | None
    power_limit_w: float | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one channel showed at one moment.

    Attributes:
        moment_s: when it was taken, by the monotonic clock.
        energy_j: joules since any start; None where this channel gives power alone.
        power_w: power in watt, where the source gives it.
        age_s: how old the value was, where the source says so.
    """

    moment_s: float
    energy_j: float | None = None
    power_w: float | None = None
    age_s: float | None = None


class Meter(Protocol):
    """One source of energy readings on or beside this machine. Used as a context manager.

    Attributes:
        LABEL: its name as the article prints it.
        DESCRIPTION: the article's sentence: what it counts, and how well.
        COMPONENTS: the components that it can give.
        ANSWERS_AT_ONCE: whether a reading takes well under a millisecond, so that it can be read at
            the ends of windows and tasks as well.
        channels: what can be read on this machine; empty where nothing can.
    """

    LABEL: str
    DESCRIPTION: str
    COMPONENTS: tuple[str, ...]
    ANSWERS_AT_ONCE: bool
    channels: Sequence[Channel]

    def __init__(self, options: Options | None = None) -> None:
        """Look for what can be read. Raises UserError for options that are not known."""

    def facts(self) -> Facts:
        """Return what it is made of, and what is there but cannot be read."""

    def read(self) -> Sequence[Reading | None]:
        """Return one reading per channel; None for one that cannot be read now."""

    def __enter__(self) -> "Meter": ...

    def __exit__(self, *exception: object) -> None: ...
