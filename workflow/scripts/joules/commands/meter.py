"""Read one energy meter once a second until ended (Ctrl-C), then say what was seen of it.

What to do first with a new plug. The options are those that the meter has in a study, in YAML:
make meter NAME=shelly OPTIONS='{host: 192.0.2.7}'. A password is named, never given:
'{host: 192.0.2.7, password_env: PLUG_PASSWORD}'.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import yaml

from joules import meters
from joules.commands import command_line
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.meters import EVERY_S, MODULE
from joules.core.wording import number_of
from joules.meters.meter import Channel, Meter, MeterFault, Reading
from joules.meters.shared.observed import Observed, observe

ASKED_EVERY_S = 1.0
OF_ENTRY = (MODULE, EVERY_S)  # what a study's entry has beside the meter's own options


class Ended(BaseException):
    """The user, or who started this, wants it to end."""


def options_of(text: str) -> Options:
    """Return the options that were given in YAML. Raises UserError for anything but a mapping."""
    try:
        options = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError:
        options = None
    if not isinstance(options, dict):
        raise UserError(
            f"OPTIONS is {text!r}; expected a mapping in YAML, as '{{host: 192.0.2.7}}'. Mind the "
            "blank behind each colon, and quote the whole for the shell."
        )
    return {key: value for key, value in options.items() if key not in OF_ENTRY}


def given_name(text: str) -> str:
    """Return the name of a meter; an empty one, as `make` gives for an unset NAME, is refused."""
    if text.strip():
        return text.strip()
    raise argparse.ArgumentTypeError(
        f"no meter is named; expected NAME, one of: {', '.join(meters.names())}. "
        "For example: make meter NAME=shelly OPTIONS='{host: 192.0.2.7}'"
    )


def lines_of(
    meter: Meter, taken: Sequence[list[Reading]], start_s: float
) -> Iterator[tuple[str, bool]]:
    """Yield a line for each reading once a second, for ever, and whether it is one."""
    due_s = time.monotonic()
    while True:
        time.sleep(max(0.0, due_s - time.monotonic()))
        due_s = max(due_s + ASKED_EVERY_S, time.monotonic())
        try:
            readings = meter.read()
        except MeterFault as fault:
            yield f"{time.monotonic() - start_s:7.1f} s  not read: {fault}", False
            continue
        for channel, reading, kept in zip(meter.channels, readings, taken, strict=True):
            if reading is None:
                yield f"{time.monotonic() - start_s:7.1f} s  {channel.name}: not read", False
                continue
            kept.append(reading)
            yield f"{reading.moment_s - start_s:7.1f} s  {line_of(channel, kept)}", True


def line_of(channel: Channel, taken: Sequence[Reading]) -> str:
    """Return what the last reading of a channel shows: power, energy, age, round trip."""
    reading = taken[-1]
    parts = []
    if reading.power_w is not None:
        parts.append(f"{reading.power_w:9.2f} W")
    if reading.energy_j is not None:
        parts.append(f"{reading.energy_j - (taken[0].energy_j or 0.0):11.1f} J since the start")
    if reading.age_s is not None:
        parts.append(f"{reading.age_s:.2f} s old")
    if reading.round_trip_s is not None:
        parts.append(f"{reading.round_trip_s * 1e3:.0f} ms")
    return f"{channel.name}: {', '.join(parts)}"


def summary(channel: Channel, seen: Observed) -> str:
    """Return the line of statistics of one channel."""
    parts = [f"{number_of(seen.readings, 'reading')} in {seen.seconds:.1f} s"]
    if seen.mean_power_w is not None:
        parts.append(f"mean power {seen.mean_power_w:.2f} W")
    if seen.step is not None:
        parts.append(f"smallest step seen {seen.step:.3g} {seen.unit}")
    if seen.update_interval_s is not None:
        parts.append(f"a new value every {seen.update_interval_s:.1f} s")
    if seen.round_trip_s is not None and seen.slowest_round_trip_s is not None:
        slowest_ms = seen.slowest_round_trip_s * 1e3
        parts.append(f"round trip {seen.round_trip_s * 1e3:.0f} ms, at most {slowest_ms:.0f} ms")
    if seen.energy_j is not None:
        how = "counted" if channel.counts else "integrated"
        parts.append(f"energy {seen.energy_j:.1f} J, {how}")
    return f"{channel.name}: {'; '.join(parts)}"


def act(options: argparse.Namespace) -> int:
    """Read until ended; return 0 when there was a reading, 1 when there was none."""
    kind = meters.load(options.name)
    meter = kind(options_of(options.options)) if not kind.ALWAYS_READ else kind()
    taken: list[list[Reading]] = []
    failed = 0
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _end)
        with meter:
            if not meter.channels:
                raise UserError(
                    f"The meter {options.name} has nothing to read on this machine; expected a "
                    "counter. `make doctor` says what is in the way."
                )
            taken = [[] for _ in meter.channels]
            command_line.say(f"{kind.LABEL}: {_identity(meter)}. Ctrl-C ends it.")
            for line, is_reading in lines_of(meter, taken, time.monotonic()):
                failed += not is_reading
                command_line.say(line)
    except Ended:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C, or make's
    for channel, readings in zip(meter.channels, taken, strict=False):
        command_line.say(summary(channel, observe(readings)))
    if failed:
        command_line.say(f"{number_of(failed, 'reading')} failed")
    return command_line.DONE if any(taken) else command_line.NOT_SO


def _identity(meter: Meter) -> str:
    facts = meter.facts()
    told = [f"{key} {facts[key]}" for key in ("model", "firmware", "component") if facts.get(key)]
    names = ", ".join(channel.name for channel in meter.channels)
    return ", ".join(told) or names


def _end(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Read one meter; see `command_line` for the exit status."""
    command = command_line.Command(
        "meter", __doc__, "make meter NAME=shelly OPTIONS='{host: 192.0.2.7}'"
    )
    command.add_argument("name", type=given_name, help=f"one of: {', '.join(meters.names())}")
    command.add_argument("--options", default="", help="its options, a mapping in YAML")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
