"""Run one emulated plug until it is ended: python tests/meters KIND [WATTS [PASSWORD]].

KIND: shelly, old-shelly or tasmota. Prints its address first.
"""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from meters.load import Load, steady
from meters.shelly_plug import OldShellyPlug, ShellyPlug
from meters.tasmota_plug import TasmotaPlug

KINDS = {"shelly": ShellyPlug, "old-shelly": OldShellyPlug, "tasmota": TasmotaPlug}


def main() -> None:
    kind, watts, password = [*sys.argv[1:], "", ""][:3]
    load = steady(float(watts)) if watts else Load()
    with KINDS[kind](load, password=password or None, latency_s=0.03) as plug:
        print(plug.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
