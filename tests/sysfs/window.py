"""Measure windows with the product's own parts on whatever /sys there is, and print what was seen.

window.py SECONDS TRIES PACKAGES DRAM: the latter two are folders of zones, by commas. Beside the
product the counters' files are read at both ends of each window: their difference is the truth. One
JSON line at the end. SIGNALS: names of signals to send to TICK_PID within each window.
"""

import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from joules.core.errors import UserError
from joules.measure import instrument
from joules.meters import all_meters
from joules.meters.reader import OwnReader

ROOT = Path("/sys/class/powercap")


def shown_uj(zones: list[str]) -> list[int]:
    return [int((ROOT / zone / "energy_uj").read_text()) for zone in zones]


def joules(before: list[int], after: list[int], zones: list[str]) -> float:
    ranges = [int((ROOT / zone / "max_energy_range_uj").read_text()) for zone in zones]
    steps = zip(before, after, ranges, strict=True)
    return sum((later - earlier) % (limit or 2**63) for earlier, later, limit in steps) / 1e6


def main() -> None:
    seconds, tries = float(sys.argv[1]), int(sys.argv[2])
    packages, dram = ([each for each in text.split(",") if each] for text in sys.argv[3:5])
    signals = [getattr(signal, name) for name in os.environ.get("SIGNALS", "").split()]
    with tempfile.TemporaryDirectory() as folder, OwnReader(all_meters()) as reader:
        measured = instrument.Instrument("NLD", Path(folder), reader)
        windows = []
        for _ in range(tries):
            with measured.window("tasks") as window:
                before = shown_uj(packages), shown_uj(dram)
                for each in signals:
                    time.sleep(seconds / (len(signals) + 1))
                    os.kill(int(os.environ["TICK_PID"]), each)
                time.sleep(seconds / (len(signals) + 1))
                after = shown_uj(packages), shown_uj(dram)
            seen, pair = measured.seen_of_counters(window), (before[0], after[0])
            windows.append(
                {
                    "true_cpu_j": joules(before[0], after[0], packages),
                    "true_dram_j": joules(before[1], after[1], dram),
                    "wrapped": any(late < early for early, late in zip(*pair, strict=True)),
                    "codecarbon_cpu_j": window.energy_j.cpu,
                    "own_cpu_j": window.energy_own_j.cpu,
                    "own_dram_j": window.energy_own_j.dram,
                    "seen": dataclasses.asdict(seen),
                }
            )
            if not signals and _right(windows[-1]):
                break
    print(
        json.dumps(
            {
                "tier": measured.tier,
                "reason": measured.tier_reason,
                "components": msgspec.to_builtins(measured.components),
                "windows": windows,
            }
        )
    )


def _right(window: dict) -> bool:
    """Return whether the try succeeded; on a busy machine a reading comes late, and is repeated."""
    pairs = [("codecarbon_cpu_j", "true_cpu_j"), ("own_cpu_j", "true_cpu_j")]
    pairs += [("own_dram_j", "true_dram_j")] if window["true_dram_j"] else []
    return all(
        window[seen] is not None and abs(window[seen] / window[true] - 1) <= 1e-3
        for seen, true in pairs
        if window[true]
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(json.dumps({"refused": str(error)}))
