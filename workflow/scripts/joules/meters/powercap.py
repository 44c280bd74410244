"""The processor's energy counters: every zone below `/sys/class/powercap` (Linux, powercap.rst)."""

import contextlib
from pathlib import Path

from joules.meters.counter import Counter

POWERCAP = Path("/sys/class/powercap")


def _component_of(zone_name: str) -> str | None:
    if zone_name.startswith("package"):
        return "cpu"
    return {"dram": "dram", "psys": "psys"}.get(zone_name)


def powercap_counters(root: Path = POWERCAP) -> list[Counter]:
    """Return the readable package, dram and psys counters below `root`, each zone once.

    The MMIO copies of package zones count the same energy, so of two zones with one name in
    different control types the `intel-rapl` one is kept.
    """
    counters: dict[tuple[str, str], Counter] = {}
    for energy in sorted(root.glob("**/energy_uj")) if root.is_dir() else []:
        with contextlib.suppress(OSError, ValueError):
            zone = energy.parent
            name = (zone / "name").read_text().strip()
            component = _component_of(name)
            parent = zone.parent / "name"
            owner = parent.read_text().strip() if parent.exists() else ""
            if component is None or (owner, name) in counters:
                continue
            int(energy.read_text())
            counters[owner, name] = Counter(
                component,
                str(energy),
                int((zone / "max_energy_range_uj").read_text()),
                lambda file=energy: int(file.read_text()),  # type: ignore[misc]
            )
    return list(counters.values())
