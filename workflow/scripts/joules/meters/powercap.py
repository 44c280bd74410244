"""The processor's energy counters: zones below `/sys/class/powercap` (Linux, powercap.rst).

The folder holds links into `/sys/devices/virtual/powercap`, where control types and zones are
folders in each other. Each of them also holds links back, `subsystem` and `device`, which are never
followed.
"""

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading

POWERCAP = Path("/sys/class/powercap")
TARGET = Path("/sys/devices/virtual/powercap")  # where its links lead
CONTROL = "intel-rapl"  # of AMD's processors as well
COPIES = "intel-rapl-mmio"
# Two views of one counter, read one after the other: CodeCarbon 3.3.2 takes them for mirrored
# within the same bounds (codecarbon.core.rapl).
MIRRORED_SHARE, MIRRORED_J = 1e-6, 1.0
BETWEEN_LOOKS_S = 0.05
CONTAINER = (
    f"In a container, {TARGET} must be mounted read-only and be unmasked, which runtimes mask "
    "(Docker: --security-opt systempaths=unconfined); mounting the folder of links does not help."
)


@dataclasses.dataclass(frozen=True)
class Zone:
    """One zone: its folder, what its file `name` says, its package's zone, and its range in joule.

    `range_j` is None where the kernel states none. `obstacle` is why its energy cannot be read;
    empty where it can.
    """

    folder: Path
    name: str
    parent: str
    range_j: float | None
    obstacle: str

    @property
    def file(self) -> Path:
        """The counter's file."""
        return self.folder / "energy_uj"

    @property
    def component(self) -> str | None:
        """What its energy belongs to; None for a part of another zone: core, uncore."""
        if self.name.startswith("package"):
            return "cpu"
        return {"dram": "dram", "psys": "psys"}.get(self.name)


def _microjoule(path: Path) -> int:
    return int(path.read_text())


def _obstacle_of(file: Path) -> str:
    try:
        _microjoule(file)
    except PermissionError:
        state = file.stat()
        return f"has mode {state.st_mode & 0o777:04o} and owner {state.st_uid}"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return ""


def _zone_of(folder: Path) -> Zone:
    """Return the zone of a folder. What cannot be known of it is None or its folder's name."""

    def named(where: Path) -> str:
        try:
            return (where / "name").read_text().strip()
        except OSError:
            return ""

    try:
        range_uj = _microjoule(folder / "max_energy_range_uj")
    except (OSError, ValueError):
        range_uj = 0
    return Zone(
        folder,
        named(folder) or folder.name,
        named(folder.parent),
        range_uj / 1e6 if range_uj > 0 else None,
        _obstacle_of(folder / "energy_uj"),
    )


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(each for each in root.iterdir() if each.name.startswith(CONTROL))
    except OSError:
        return []


def zones(root: Path = POWERCAP) -> list[Zone]:
    """Return every zone below `root`, each once, in the order of their real paths."""
    folders: set[str] = set()
    for entry in _entries(root):
        for folder, _, files in os.walk(os.path.realpath(entry), followlinks=False):
            if "energy_uj" in files or (":" in os.path.basename(folder) and "name" in files):
                folders.add(folder)
    return [_zone_of(Path(folder)) for folder in sorted(folders)]


def dangling(root: Path = POWERCAP) -> list[Path]:
    """Return the links below `root` that lead nowhere."""
    return [each for each in _entries(root) if each.is_symlink() and not each.exists()]


def without_copies(found: Sequence[Zone]) -> list[Zone]:
    """Return the zones without the MMIO copies, which count the energy of another zone again."""
    originals = {(zone.parent, zone.name) for zone in found if COPIES not in str(zone.folder)}
    return [
        zone
        for zone in found
        if COPIES not in str(zone.folder) or (zone.parent, zone.name) not in originals
    ]


def _shows_the_same(zone: Zone, other: Zone) -> bool:
    """Return whether two zones show one number.

    The other is read before and after: on a busy machine much energy may pass between two readings.
    """
    before_j, joules, after_j = (_microjoule(each.file) / 1e6 for each in (other, zone, other))
    bound = max(MIRRORED_SHARE * joules, MIRRORED_J)
    return joules > 0 and before_j - bound <= joules <= after_j + bound


def _mirrored_now(found: Sequence[Zone]) -> set[Path]:
    seen: list[Zone] = []
    mirrors = set()
    for zone in found:
        if any(_shows_the_same(zone, other) for other in seen):
            mirrors.add(zone.folder)
        else:
            seen.append(zone)
    return mirrors


def mirrors(packages: Sequence[Zone]) -> set[Path]:
    """Return the folders of packages that show the number of an earlier one: dies of one socket.

    Looked at twice: the numbers of two packages that count for themselves may meet once.
    """
    if len(packages) < 2:
        return set()
    try:
        first = _mirrored_now(packages)
        if not first:
            return set()
        time.sleep(BETWEEN_LOOKS_S)
        return first & _mirrored_now(packages)
    except (OSError, ValueError):
        return set()


class Meter:
    """The processor's own counters of its packages, of the memory, and of the platform."""

    LABEL = "powercap"
    DESCRIPTION = (
        "The processor counts the energy of each package and, where it can, of the memory; Linux "
        "shows these counters as files [@khan2018]."
    )
    COMPONENTS = ("cpu", "dram", "psys")
    ALWAYS_READ = True
    ANSWERS_AT_ONCE = True

    def __init__(self, options: Options | None = None, root: Path = POWERCAP) -> None:
        check_options("powercap", options)
        self.root = root
        self.dangling = dangling(root)
        self.zones = without_copies(zones(root))
        self.packages = [zone for zone in self.zones if zone.component == "cpu"]
        readable = [each for each in self.zones if each.component and not each.obstacle]
        self.mirrors = mirrors([zone for zone in readable if zone.component == "cpu"])
        self._read = [zone for zone in readable if zone.folder not in self.mirrors]
        self.channels = [
            Channel(str(zone.component), zone.folder.name, str(zone.file), zone.range_j)
            for zone in self._read
        ]

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def package_names(self) -> set[str]:
        """Return the names of the packages whose counters can be read, mirrored ones included."""
        return {zone.name for zone in self.packages if not zone.obstacle}

    def mirrored_names(self) -> set[str]:
        """Return the names of those packages that show the number of another one."""
        return {zone.name for zone in self.packages if zone.folder in self.mirrors}

    def what_is_missing(self) -> str:
        """Return in one sentence why the processor is not counted whole; empty where it is."""
        blocked = [zone for zone in self.packages if zone.obstacle]
        if blocked:
            return f"{self._as_linked(blocked[0])} {blocked[0].obstacle}. {self._remedy(blocked)}"
        gone = [each for each in self.dangling if each.name.count(":") == 1]
        if gone:
            return f"{gone[0]} is a link that leads nowhere: its zone is gone or hidden. " + (
                CONTAINER
            )
        if self.packages:
            return ""
        if self.zones:
            named = sorted({zone.name for zone in self.zones})
            return (
                f"{self.root} has no counter of a processor package, only {', '.join(named)}, "
                "which counts something else. Measure on another machine."
            )
        return (
            f"{self.root} has no energy counter. Virtual machines usually have none; measure on "
            f"the machine itself. {CONTAINER}"
        )

    def _as_linked(self, zone: Zone) -> Path:
        link = self.root / zone.folder.name
        return (link if link.exists() else zone.folder) / "energy_uj"

    def _remedy(self, blocked: Sequence[Zone]) -> str:
        if "mode" not in blocked[0].obstacle:
            return "Mend that, or measure on another machine."
        return f"Make it readable before the study: sudo chmod a+r {self.root}/*/energy_uj"

    def without_range(self) -> list[str]:
        """Return the counters of which the kernel does not say when they start again at 0."""
        return [channel.name for channel in self.channels if channel.range_j is None]

    def facts(self) -> Facts:
        """Return the files that are read, and what is there and is not."""
        return {
            "files": [channel.source for channel in self.channels],
            "unreadable": [str(zone.file) for zone in self.zones if zone.obstacle],
            "mirrored": sorted(str(folder) for folder in self.mirrors),
            "dangling": [str(link) for link in self.dangling],
            "without_range": self.without_range(),
        }

    def read(self) -> list[Reading | None]:
        """Return the joules of each counter; None for a file that cannot be read now."""
        return list(self._readings())

    def _readings(self) -> Iterator[Reading | None]:
        for zone in self._read:
            try:
                joules = _microjoule(zone.file) / 1e6
            except (OSError, ValueError):
                yield None
            else:
                yield Reading(time.monotonic(), joules)
