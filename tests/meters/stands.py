"""For every meter that a configuration names: what it reads here, in a test, without the device."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from meters import trees
from meters.kasa_plug import KasaPlug
from meters.load import steady
from meters.shelly_plug import ShellyPlug
from meters.tasmota_plug import TasmotaPlug

WATTS = 55.0
PASSWORD = "correct horse: battery&staple/100 %"
# As the page of zeus-apple-silicon 1.1.0 describes it: millijoules, None for what a chip lacks.
ZEUS = """
class AppleEnergyMetrics:
    cpu_total_mj, gpu_mj, gpu_sram_mj, dram_mj, ane_mj = 120_000, 40_000, None, 9_000, 0
    efficiency_cores_mj, performance_cores_mj = [20_000, 20_000], [40_000, 40_000]


class AppleEnergyMonitor:
    def get_cumulative_energy(self):
        return AppleEnergyMetrics()
"""
Made = tuple[dict[str, Any], dict[str, Any]]  # options, and further arguments of `Meter`


@contextlib.contextmanager
def shelly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setenv("PLUG_PASSWORD", PASSWORD)
    with ShellyPlug(steady(WATTS), password=PASSWORD) as plug:
        yield {"host": plug.address, "password_env": "PLUG_PASSWORD"}, {}


@contextlib.contextmanager
def tasmota(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    file = folder / "password"
    file.write_text(f"{PASSWORD}\n")
    with TasmotaPlug(steady(WATTS), password=PASSWORD) as plug:
        yield {"host": plug.address, "password_file": str(file)}, {}


@contextlib.contextmanager
def kasa(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    with KasaPlug(steady(WATTS)) as plug:
        yield {"host": plug.address}, {}


@contextlib.contextmanager
def csv(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    file = folder / "log.csv"
    file.write_text(f"time,power\n{time.time():.3f},{WATTS}\n")
    yield {"path": str(file), "value": "watt"}, {}


@contextlib.contextmanager
def hwmon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    yield {"chip": "amdgpu", "component": "gpu"}, {"root": trees.hwmon(folder)}


@contextlib.contextmanager
def battery(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    yield {}, {"root": trees.power_supply(folder)}


@contextlib.contextmanager
def pm_counters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    yield {}, {"root": trees.pm_counters(folder, time.time())}


@contextlib.contextmanager
def apple(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """A Python that has a scripted library, where the meter's environment would be."""
    environment = folder / ".venvs/meter-apple"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "zeus_apple_silicon.py").write_text(ZEUS)
    monkeypatch.chdir(folder)
    yield {}, {}


STANDS: dict[str, Callable[..., contextlib.AbstractContextManager[Made]]] = {
    each.__name__: each for each in (apple, battery, csv, hwmon, kasa, pm_counters, shelly, tasmota)
}
