"""What the types of all stored files have in common."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

RunKind = Literal["task", "fixed", "control", "quality"]

Tier = Literal["estimated", "sampled", "measured"]  # from the weakest to the strongest


EnergyChoice = Literal["processor", "gpu", "wall"]


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of all that is stored: never changed, and an unknown key is an error when it is read.

    Python's garbage collector need not look at it: it is a tree and holds no reference to itself.
    """


# Codes of rules that are stated of a run, but are no ground to repeat it or to distrust it. A
# counter of unknown range is wrong only when it starts again, and then it counts as reset. A meter
# beside the headline loses its own number and no other.
STATED_ONLY = ("not_settled", "counter_range_unknown", "meter_beside", "gap_time")
