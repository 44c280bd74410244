"""Energy meters, one module each, found by name, and the reader that samples them.

A meter knows hardware and joules; what a window or a run is belongs to `measure`. A module in this
folder that has a class `Meter` of the shape of `meters.meter.Meter` is a meter; what meters share
lies in folders below it.
"""

import importlib
import pkgutil

from joules.core.errors import UserError
from joules.core.inference import Options
from joules.meters.meter import Meter

# Modules here that are no meter.
SHARED = ("counter", "entries", "meter", "polled", "reader", "secrets")


def names() -> list[str]:
    """Return the names of the meters that have a module here."""
    found = [each.name for each in pkgutil.iter_modules(__path__) if not each.ispkg]
    return sorted(set(found) - set(SHARED))


def load(name: str) -> type[Meter]:
    """Return the class of the meter `name`. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(
            f"Unknown meter {name!r}. Known meters: {', '.join(names())}. "
            "Correct the name, or add a module of that name to workflow/scripts/joules/meters/."
        )
    return importlib.import_module(f"{__name__}.{name}").Meter


def check_options(name: str, options: Options | None, known: tuple[str, ...] = ()) -> None:
    """Raise UserError for options of the meter `name` that are not known."""
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UserError(
            f"The meter {name} has no option {', '.join(unknown)}; expected "
            f"{', '.join(known) or 'none'}. Correct the spelling, or take it out."
        )


def all_meters() -> list[Meter]:
    """Return every meter that needs no configuration, those without anything to read included."""
    kinds = [load(name) for name in names()]
    return [kind() for kind in kinds if kind.ALWAYS_READ]
