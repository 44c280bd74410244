"""Reads the counters of Apple silicon by zeus-apple-silicon; asked by joules.meters.shared.child.

The first line is left unread. Then one line for each reading, answered by one: the counters in
millijoule by the library's names, null where the chip has none, and the monotonic clock.
"""

import json
import sys
import time

try:
    import zeus_apple_silicon
except ImportError:
    sys.stdin.readline()
    sys.stdin.readline()
    print(json.dumps({"missing": "zeus-apple-silicon"}), flush=True)
    sys.exit()

COUNTERS = ("cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")


def main() -> None:
    """Answer line by line until the input ends."""
    sys.stdin.readline()
    monitor = zeus_apple_silicon.AppleEnergyMonitor()
    for _ in sys.stdin:
        metrics = monitor.get_cumulative_energy()
        answer = {name: getattr(metrics, name, None) for name in COUNTERS}
        print(json.dumps({**answer, "moment_s": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
