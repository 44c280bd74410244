"""Apple silicon without root, by the library zeus-apple-silicon in an environment of its own.

The library reads IOReport, a framework of macOS that Apple does not document. By its own page the
values are believed to come from a model of load, clock and voltage, and from no sensor of power. So
they are no measurement of energy. This module was written from the library's documentation and
tried with a scripted library alone, not on a Mac.
"""

from collections.abc import Sequence

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading, Unreachable
from joules.meters.shared.child import Child

NAME = "apple"
ENVIRONMENT = "meter-apple"
ANSWER_S = 5.0
JOULES_PER_MJ = 1e-3
# The Neural Engine is a part of its own. The memory of the GPU is added to the GPU.
PARTS = {
    "cpu": ("cpu_total_mj",),
    "gpu": ("gpu_mj", "gpu_sram_mj"),
    "dram": ("dram_mj",),
    "soc": ("ane_mj",),
}


class Meter:
    """The counters of one chip: processor, GPU, memory and Neural Engine."""

    LABEL = "Apple silicon (not tried on a Mac)"
    DESCRIPTION = (
        "macOS tells the energy of processor, GPU, memory and Neural Engine by IOReport, which "
        "zeus-apple-silicon reads [@zeusapple]. By that library's page these are believed to be "
        "estimates of a model. Our reading of them was not tried on a Mac."
    )
    COMPONENTS = ("cpu", "gpu", "dram", "soc")
    ALWAYS_READ = False
    ANSWERS_AT_ONCE = False

    def __init__(self, options: Options | None = None) -> None:
        check_options(NAME, options)
        self._child = Child(ENVIRONMENT, "apple_child.py", {}, ANSWER_S)
        self._names: dict[str, list[str]] = {}
        self.channels: Sequence[Channel] = ()

    def __enter__(self) -> "Meter":
        answer = self._child.first()
        self._names = {
            part: there
            for part, names in PARTS.items()
            if (there := [name for name in names if answer[name] is not None])
        }
        if not self._names:
            self._child.close()
            raise Unreachable(
                "zeus-apple-silicon knows no counter of this chip; expected Apple silicon. "
                "Measure at the wall."
            )
        self.channels = [
            Channel(
                part,
                f"IOReport {' + '.join(names)}",
                f"IOReport {part}",
                None,
                counts=False,
                resolution_j=JOULES_PER_MJ,
            )
            for part, names in self._names.items()
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.close()

    def facts(self) -> Facts:
        """Return the counters that are read, and that they are of a model and untried."""
        return {
            "model": "Apple silicon, IOReport",
            "counters": [name for names in self._names.values() for name in names],
            "modelled": True,
            "untried": True,
            "emulated": False,
        }

    def read(self) -> list[Reading | None]:
        """Return the joules of each part. Raises MeterFault where the library does not answer."""
        answer = self._child.ask()
        return [
            Reading(answer["moment_s"], sum(answer[name] for name in names) * JOULES_PER_MJ)
            for names in self._names.values()
        ]
