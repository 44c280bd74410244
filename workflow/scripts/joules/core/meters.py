"""The meters that a configuration names, and what a record says of them.

The rooms `meters` and `measure` read and judge them. Nothing here names an address: records are
published.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from joules.core.energy import WALL
from joules.core.inference import Facts, Options
from joules.core.keys import Schema
from joules.core.values import EnergyChoice, Stored

MeterName = Annotated[
    str, Meta(pattern=r"^[a-z0-9_]+$(?!\n)", title="a name of small letters, digits and `_`")
]
MODULE, EVERY_S = "module", "every_s"  # the keys of a meter's entry that are not its module's own
SHORTEST_S, LONGEST_S = 0.1, 60.0  # between two readings
ENTRIES: Final[Schema] = {
    "additionalProperties": {
        "type": "object",
        "required": [MODULE],
        "properties": {
            MODULE: {"type": "string", "description": "The module of the meter."},
            EVERY_S: {
                "type": "number",
                "minimum": SHORTEST_S,
                "maximum": LONGEST_S,
                "description": "Seconds between readings.",
            },
        },
    }
}
# Where a device is and who may read it: no part of what is measured, and not for publication.
PRIVATE: Final = ("host", "user", "password_env", "password_file", "path")


class ChannelFacts(Stored, frozen=True, kw_only=True):
    """One number that a meter of the configuration read."""

    component: Annotated[str, Meta(description="What its energy belongs to.")]
    name: Annotated[str, Meta(description="What it is called.")]
    source: Annotated[str, Meta(description="The part of the device, or the file.")]
    counts: Annotated[
        bool,
        Meta(description="Whether the source counts energy; false: it tells power, integrated."),
    ]
    resolution_j: Annotated[float | None, Meta(description="Smallest step of its energy.")]
    update_interval_s: Annotated[float | None, Meta(description="How often it renews its value.")]
    range_j: Annotated[float | None, Meta(description="Energy after which it starts again at 0.")]


class MeterFacts(Stored, frozen=True, kw_only=True):
    """One meter of the configuration over the time of a run."""

    module: Annotated[str, Meta(description="Its module in joules/meters.")]
    label: Annotated[str, Meta(description="Its name as the article prints it.")]
    description: Annotated[str, Meta(description="What it counts, and how well.")]
    every_s: Annotated[float, Meta(description="Time between readings that was asked for.")]
    emulated: Annotated[bool, Meta(description="Whether the device says that it is no real one.")]
    device: Annotated[Facts, Meta(description="What it says of itself; keys differ.")]
    channels: Annotated[list[ChannelFacts], Meta(description="What it read.")]
    readings: Annotated[int, Meta(description="How many it gave over the run.")]
    round_trip_s: Annotated[
        float | None, Meta(description="Median time to answer; null where it answers at once.")
    ]
    faults: Annotated[
        dict[str, int], Meta(description="How often it could not be read, by the kind of fault.")
    ]


def check_entries(meters: Mapping[str, Options], energy: EnergyChoice) -> None:
    """Raise ValueError for an entry without a module, or with times between readings that are odd.

    So too where the headline, `energy`, is the wall and no entry is called so. What else is in an
    entry is checked by its module.
    """
    if energy == WALL and WALL not in meters:
        raise ValueError(
            "`energy` is wall and `meters` has no `wall`: nothing would be measured. Name the "
            "meter, as `meters: {wall: {module: shelly, host: 192.0.2.7}}`, or take `energy: "
            "processor`."
        )
    for name, entry in meters.items():
        module, every_s = entry.get(MODULE), entry.get(EVERY_S, 1)
        if not isinstance(module, str) or not module:
            raise ValueError(
                f"`meters.{name}.{MODULE}` is {module!r}. Expected the name of a module in "
                "`workflow/scripts/joules/meters/`, as shelly. Add it."
            )
        known = isinstance(every_s, int | float) and not isinstance(every_s, bool)
        if not known or not SHORTEST_S <= every_s <= LONGEST_S:
            raise ValueError(
                f"`meters.{name}.{EVERY_S}` is {every_s!r}. Expected a number of seconds from "
                f"{SHORTEST_S:g} to {LONGEST_S:g}. Correct it."
            )


def public(meters: Mapping[str, Options]) -> dict[str, Options]:
    """Return entries without what says where a device is and who may read it."""
    return {
        name: {key: value for key, value in entry.items() if key not in PRIVATE}
        for name, entry in meters.items()
    }


def public_or_unset(meters: Mapping[str, Options]) -> dict[str, Options] | UnsetType:
    """Return what `public` does; nothing at all where no meter is named."""
    return public(meters) or UNSET
