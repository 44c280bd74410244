"""The meters that a configuration names: `meters: {wall: {module: shelly, every_s: 1, …}}`."""

from collections.abc import Mapping
from typing import Final

from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.inference import Options
from joules.core.meters import EVERY_S, MODULE
from joules.meters import load
from joules.meters.meter import WHOLE_MACHINE, Meter
from joules.meters.polled import Entry, Polled

DEFAULT_S: Final = 1.0  # between two readings


def polled_meters(entries: Mapping[str, Options], largest_power_w: float = 5000.0) -> list[Polled]:
    """Return the meters of a configuration, not started and not yet in contact with any device.

    Raises UserError for an unknown module, an option that it does not know, a password that is not
    where the options say, and a meter called `wall` that cannot be of the whole machine.
    """
    return [
        Polled(entry, meter, largest_power_w)
        for entry, meter in (_made(name, options) for name, options in entries.items())
    ]


def _made(name: str, options: Options) -> tuple[Entry, Meter]:
    module = str(options[MODULE])
    kind = load(module)
    if kind.ALWAYS_READ:
        raise UserError(
            f"`meters.{name}` is of the module {module}, which is read wherever it is there. "
            f"Expected a meter that has to be named. Take `meters.{name}` out."
        )
    if name == WALL and set(WHOLE_MACHINE).isdisjoint(kind.COMPONENTS):
        raise UserError(
            f"`meters.{WALL}` is of the module {module}, which reads "
            f"{', '.join(kind.COMPONENTS)}. The name {WALL} is for a meter of the whole machine. "
            "Give this one another name."
        )
    own = {key: value for key, value in options.items() if key not in (MODULE, EVERY_S)}
    return Entry(name, module, float(options.get(EVERY_S, DEFAULT_S))), kind(own)
