"""A tree of powercap zones as kernels make them, below a folder, and CodeCarbon pointed at it.

For faults of a counter at a chosen moment; test_real_trees.py has both readers unpatched.
"""

import contextlib
import importlib.util
import os
from pathlib import Path
from unittest import mock

import yaml

from joules.meters import powercap

SYSFS = Path(__file__).parent / "sysfs"
ALL_LAYOUTS = yaml.safe_load((SYSFS / "layouts.yaml").read_text())


def lay_out(layout: str, root: Path) -> Path:
    """Make the tree of a layout; return its class/powercap."""
    spec = importlib.util.spec_from_file_location("lay_out", SYSFS / "lay_out.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lay_out(ALL_LAYOUTS[layout], root)


class Zone:
    """One zone of a tree; writes are atomic, as reads of the kernel's files are."""

    def __init__(self, link: Path, energy_uj: int = 1_000_000):
        self.path = link.resolve()
        self.limit((self.path / "max_energy_range_uj").read_text())
        self.set(energy_uj)

    def limit(self, range_uj: int | str) -> None:
        (self.path / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.range_uj = int(range_uj)

    def set(self, energy_uj: int) -> None:
        part = self.path / "part"
        part.write_text(f"{energy_uj}\n")
        os.replace(part, self.path / "energy_uj")
        self.energy_uj = energy_uj

    def add(self, joules: float) -> None:
        self.set((self.energy_uj + round(joules * 1e6)) % self.range_uj)


class Package(Zone):
    """A package zone whose energy the hardware also counts in an MMIO zone."""

    copy: Zone | None = None

    def add(self, joules: float) -> None:
        super().add(joules)
        if self.copy:
            self.copy.add(joules)


def make_tree(folder: Path) -> tuple[Path, Package, Zone]:
    """Make the laptop: package with core, uncore and memory below it, its MMIO copy, and psys."""
    root = lay_out("intel-laptop-psys", folder)
    package, memory = Package(root / "intel-rapl:0"), Zone(root / "intel-rapl:0:2")
    package.copy = Zone(root / "intel-rapl-mmio:0")
    Zone(root / "intel-rapl:1")
    return root, package, memory


def counters(root: Path) -> list[powercap.Meter]:
    """Return the meter of a tree, as the own reader takes it."""
    return [powercap.Meter(root=root)]


@contextlib.contextmanager
def codecarbon_reads(root: Path):
    """Point CodeCarbon at a tree; it has no setting for that."""
    import codecarbon.core.cpu as cpu
    import codecarbon.external.hardware as hardware
    from codecarbon.core import hardware_cache

    real = cpu.IntelRAPL

    def fake(*args, **kwargs):
        kwargs["rapl_dir"] = str(root / "intel-rapl")
        return real(*args, **kwargs)

    hardware_cache.clear_cache()
    try:
        with (
            mock.patch.object(cpu, "is_rapl_available", lambda rapl_dir=None: True),
            mock.patch.object(hardware, "IntelRAPL", fake),
        ):
            yield
    finally:
        hardware_cache.clear_cache()
