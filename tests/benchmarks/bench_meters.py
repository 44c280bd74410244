"""What reading meters costs: every kind at once, one reading a second, beside one that hangs.

Prints `meters`, `cpu_share` (of one core, over all threads and child processes), `readings` (the
fewest of a plug or logger), `hung_readings`, and `longest_look_ms`, the longest that the end of a
window took while all that went on, one `name: value` a line.

Plugs are emulated, each in a process of its own, whose time does not count. A meter with an
environment of its own is read where `.venvs` has it.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(ROOT / "tests")]

from meters import trees  # noqa: E402

from joules.meters import all_meters, load  # noqa: E402
from joules.meters.entries import polled_meters  # noqa: E402
from joules.meters.polled import Entry, Polled  # noqa: E402
from joules.meters.reader import OwnReader  # noqa: E402

PLUGS = {"shelly": "shelly", "old-shelly": "shelly", "tasmota": "tasmota"}  # kind -> module
ON_TREES = ("hwmon", "battery", "pm_counters")
OPTIONS = {"hwmon": {"chip": "amdgpu", "component": "gpu"}}


@contextlib.contextmanager
def plugs() -> Iterator[tuple[dict[str, dict], set[int]]]:
    """Yield entries of a configuration for emulated plugs, and the processes that emulate them."""
    with contextlib.ExitStack() as stack:
        entries, ids = {}, set()
        for kind, module in PLUGS.items():
            made = subprocess.Popen(
                [sys.executable, str(ROOT / "tests/meters"), kind],
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(made.wait)
            stack.callback(made.terminate)
            assert made.stdout is not None
            entries[kind.replace("-", "_")] = {
                "module": module,
                "host": made.stdout.readline().strip(),
            }
            ids.add(made.pid)
        yield entries, ids


def on_trees(folder: Path) -> list[Polled]:
    """Return the meters that read files, each on a tree as a kernel lays it out."""
    roots = {
        "hwmon": trees.hwmon(folder / "hwmon"),
        "battery": trees.power_supply(folder / "battery"),
        "pm_counters": trees.pm_counters(folder / "pm_counters", time.time()),
    }
    return [
        Polled(Entry(name, name, 1.0), load(name)(OPTIONS.get(name, {}), roots[name]))  # type: ignore[call-arg]
        for name in ON_TREES
    ]


def cpu_s(without: set[int]) -> float:
    """Return the processor time of this process and of its children but some, in seconds."""
    here = psutil.Process()
    mine = [here, *(each for each in here.children(recursive=True) if each.pid not in without)]
    return sum(sum(each.cpu_times()[:2]) for each in mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    with tempfile.TemporaryDirectory() as made, plugs() as (entries, emulating):
        log = Path(made) / "log.csv"
        log.write_text(f"time,power\n{time.time():.3f},50\n")
        entries["log"] = {"module": "csv", "path": str(log), "value": "watt"}
        hung = {"module": "shelly", "host": f"127.0.0.1:{silent.getsockname()[1]}"}
        named = [*polled_meters(entries), *on_trees(Path(made))]
        stuck = polled_meters({"wall": hung})
        with OwnReader(all_meters(), named=[*named, *stuck]) as reader:
            time.sleep(3.0)  # they find their devices
            began, used_s, longest_s = time.monotonic(), cpu_s(emulating), 0.0
            while time.monotonic() - began < asked.seconds:
                with log.open("a") as file:
                    file.write(f"{time.time():.3f},50\n")
                before = time.monotonic()
                reader.total_j()
                longest_s = max(longest_s, time.monotonic() - before)
                time.sleep(1.0)
            share = (cpu_s(emulating) - used_s) / (time.monotonic() - began)
    print(f"meters: {len(named) + len(stuck) + len(reader.meters)}")
    print(f"cpu_share: {share:.4f}")
    print(f"readings: {min(each.readings for each in named if each.entry.name in entries)}")
    print(f"hung_readings: {stuck[0].readings}")
    print(f"longest_look_ms: {longest_s * 1e3:.2f}")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
