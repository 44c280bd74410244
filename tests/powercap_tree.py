"""A fake powercap tree, as the kernel lays it out, and CodeCarbon pointed at it."""

import contextlib
import os
from pathlib import Path
from unittest import mock


class Zone:
    """One zone of a fake powercap tree; writes are atomic, as reads of the kernel's files are."""

    def __init__(self, path: Path, name: str, energy_uj: int = 1_000_000, range_uj: int = 10**9):
        self.path, self.range_uj = path, range_uj
        path.mkdir(parents=True)
        (path / "name").write_text(name + "\n")
        (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(energy_uj)

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


def make_tree(root: Path) -> tuple[Path, Package, Zone]:
    """Make a package zone with core and DRAM below it, an MMIO copy of it, and a psys zone."""
    copy = Zone(root / "intel-rapl-mmio/intel-rapl-mmio:0", "package-0", range_uj=262_143_328_850)
    package = Package(root / "intel-rapl/intel-rapl:0", "package-0", range_uj=262_143_328_850)
    dram = Zone(root / "intel-rapl/intel-rapl:0/intel-rapl:0:1", "dram")
    Zone(root / "intel-rapl/intel-rapl:0/intel-rapl:0:0", "core")
    package.copy = copy
    Zone(root / "intel-rapl/intel-rapl:1", "psys")
    return root, package, dram


@contextlib.contextmanager
def codecarbon_reads(root: Path):
    """Point CodeCarbon at a fake tree; it has no setting for that."""
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
