"""What every energy meter is, what it gives, and how it tells what is in the way."""

import dataclasses
from collections.abc import Sequence
from typing import Final, Protocol

from joules.core.errors import UserError
from joules.core.inference import Facts, Options

COMPONENTS: Final = ("wall", "cpu", "gpu", "dram", "psys", "soc", "battery")
WHOLE_MACHINE: Final = ("wall", "battery")  # what all of the machine takes


class MeterFault(UserError):
    """A meter cannot be read: what was given, what was expected, what to do.

    Never the password, and no other part of an answer than what tells which device it is.
    """


class Unreachable(MeterFault):
    """Nothing answers within its time: host, port, network, file or driver."""


class WrongDevice(MeterFault):
    """Something answers, and it is not the device that the module speaks to."""


class Refused(MeterFault):
    """The device wants other credentials, or any at all; a file may not be read by this user."""


class BadAnswer(MeterFault):
    """The device answers and the answer is cut, or lacks what a reading needs."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One number that a meter reads.

    Attributes:
        component: what its energy belongs to: one of `COMPONENTS`.
        name: how it is called in messages and in records of validity.
        source: the file or the part of the device that it is read from. Never an address of the
            network: it is published.
        range_j: joules after which it starts again at 0; None where that is not known.
        power_limit_w: the most that the device lets itself draw; None where it does not say.
        counts: whether the source counts energy itself. False: it tells power, which is integrated,
            here or in its module.
        resolution_j: the smallest step of its energy; None where it is far below a joule, or where
            the source tells power.
        update_interval_s: how often the source renews its value; None where that is not known, or
            is well below a second.
    """

    component: str
    name: str
    source: str
    range_j: float | None
    power_limit_w: float | None = None
    counts: bool = True
    resolution_j: float | None = None
    update_interval_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one channel showed at one moment.

    Attributes:
        moment_s: the moment that the value belongs to, by the monotonic clock. Of a device that is
            asked: when the answer came, less half the round trip. Of a source that says how old its
            value is: when it was taken.
        energy_j: joules since any start; None where this channel gives power alone.
        power_w: power in watt, where the source gives it.
        age_s: how old the value was when it was read, where the source says so. It is taken off
            `moment_s` already.
        round_trip_s: how long the source took to answer; None where it answers at once.
    """

    moment_s: float
    energy_j: float | None = None
    power_w: float | None = None
    age_s: float | None = None
    round_trip_s: float | None = None


class Meter(Protocol):
    """One source of energy readings on or beside this machine. Used as a context manager.

    Attributes:
        LABEL: its name as the article prints it.
        DESCRIPTION: the article's sentence: what it counts, and how well, with a source.
        COMPONENTS: the components that it can give.
        ALWAYS_READ: whether it is read wherever it is there, without an entry in the
            configuration. Such a meter looks for what it can read when it is made, raises nothing
            where there is nothing, and takes no options.
        ANSWERS_AT_ONCE: whether a reading takes well under a millisecond, so that it can be read at
            the ends of windows and tasks as well. Any other meter is read by its own thread alone.
        channels: what can be read; empty where nothing can. Of a meter with an entry it is settled
            when `__enter__` returns, and may be empty before.
    """

    LABEL: str
    DESCRIPTION: str
    COMPONENTS: tuple[str, ...]
    ALWAYS_READ: bool
    ANSWERS_AT_ONCE: bool
    channels: Sequence[Channel]

    def __init__(self, options: Options | None = None) -> None:
        """Check the options, and make no contact yet.

        They are those of the configuration without `module` and `every_s`; a password is asked of
        `meters.secrets.secret_of`. Raises UserError for options that are not known or missing.
        """

    def facts(self) -> Facts:
        """Return what it is made of, and what is there but cannot be read.

        Asked after it was opened, and again at the end; makes no contact. A device has `model`,
        `firmware` and `emulated` (true where it says that it is no real one). Neither addresses
        nor serial numbers nor secrets: this is published.
        """

    def read(self) -> Sequence[Reading | None]:
        """Return one reading per channel; None for one that cannot be read now.

        Raises MeterFault where the device as a whole cannot be read; asked again, it tries anew.
        Ends within some seconds by a timeout of its own; nobody waits for it.
        """

    def __enter__(self) -> "Meter":
        """Make contact, find out what device it is and settle `channels`. Raises MeterFault."""

    def __exit__(self, *exception: object) -> None:
        """Close what is open. Called by the thread that reads it."""
