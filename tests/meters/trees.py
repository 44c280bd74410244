"""Folders below /sys as kernels make them: links in the classes, and links back in the devices."""

from pathlib import Path

# chip, its device's folder below devices/, and its files; as `ls` shows them on such machines
HWMON = [
    ("hwmon0", "acpitz", "virtual/thermal/thermal_zone0", {"temp1_input": 27800}),
    (
        "hwmon1",
        "amdgpu",
        "pci0000:00/0000:00:03.1/0000:2b:00.0",
        {"power1_average": 31_000_000, "power1_label": "PPT", "power1_cap": 220_000_000},
    ),
    (
        "hwmon2",
        "xe",
        "pci0000:00/0000:00:01.0/0000:03:00.0",
        {
            "energy1_input": 5_000_000,
            "energy1_label": "card",
            "energy2_input": 3_000_000,
            "energy2_label": "pkg",
            "power1_max": 190_000_000,
        },
    ),
    (
        "hwmon10",
        "corsairpsu",
        "pci0000:00/0000:00:14.0/usb1/1-9/0003:1B1C:1C08.0003",
        {"power1_input": 92_000_000, "power1_label": "power total", "power2_input": 60_000_000},
    ),
    (
        "hwmon11",
        "ina226",
        "platform/soc/fe804000.i2c/i2c-1/1-0040",
        {"power1_input": 4_250_000},
    ),
]


def write(folder: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def in_class(root: Path, kind: str, name: str, device: str, files: dict[str, object]) -> Path:
    """Make one entry of a class: its real folder, the link to it, and the links back."""
    real = root / "devices" / device / kind / name
    real.mkdir(parents=True)
    write(real, files)
    up = "../" * len(real.relative_to(root).parts)
    (real / "subsystem").symlink_to(f"{up}class/{kind}")
    (real / "device").symlink_to("../../../" + Path(device).name)
    links = root / "class" / kind
    links.mkdir(parents=True, exist_ok=True)
    (links / name).symlink_to(f"../../devices/{device}/{kind}/{name}")
    return real


def hwmon(root: Path) -> Path:
    """Return the class's folder with five chips, and a link that leads nowhere."""
    for name, chip, device, files in HWMON:
        in_class(root, "hwmon", name, device, {"name": chip, **files})
    gone = root / "class/hwmon/hwmon3"
    gone.symlink_to("../../devices/platform/gone/hwmon/hwmon3")
    return root / "class/hwmon"


def power_supply(root: Path, **changed: object) -> Path:
    """Return the class's folder with a charger, a mouse and a laptop's battery."""
    battery = {
        "type": "Battery",
        "status": "Discharging",
        "power_now": 14_230_000,
        "energy_now": 41_000_000,
        "voltage_now": 12_021_000,
        "model_name": "42T4865",
        "manufacturer": "LGC",
        "serial_number": " 8901-LGC7Q",  # not digits alone: any measured number may hold four
        **changed,
    }
    acpi = "LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/device:19/PNP0C09:00"
    charger = {"type": "Mains", "online": 0}
    in_class(root, "power_supply", "AC", f"{acpi}/ACPI0003:00", charger)
    mouse = {"type": "Battery", "scope": "Device", "status": "Discharging", "model_name": "Mouse"}
    usb = "pci0000:00/0000:00:14.0/usb1/1-2/0003:046D:C52B.0002"
    in_class(root, "power_supply", "hidpp_battery_0", usb, mouse)
    there = {key: value for key, value in battery.items() if value is not None}
    in_class(root, "power_supply", "BAT0", f"{acpi}/PNP0C0A:00", there)
    return root / "class/power_supply"


def pm_counters(root: Path, epoch_s: float, accelerators: int = 2) -> Path:
    """Return the folder of a Cray node's counters, sampled at a moment."""
    folder = root / "cray/pm_counters"
    folder.mkdir(parents=True)
    sampled_us = int(epoch_s * 1e6)
    joules = {"energy": 9_000_000, "cpu_energy": 4_000_000, "memory_energy": 700_000}
    joules |= {f"accel{index}_energy": 2_000_000 + index for index in range(accelerators)}
    joules["accel_energy"] = 2_000_000 * accelerators
    write(folder, {name: f"{value} J {sampled_us} us" for name, value in joules.items()})
    write(folder, {"power": f"310 W {sampled_us} us", "power_cap": f"0 W {sampled_us} us"})
    numbers = {"freshness": 417_336, "generation": 12, "startup": 1_700_000_000, "version": 2}
    write(folder, {**numbers, "raw_scan_hz": 10})
    return folder
