"""What each component's energy comes from, and how far it can be trusted: its tier.

`measured` is a component whose counter CodeCarbon and the own reader both read, whole. Everything
else is less, and says why.
"""

import dataclasses
from pathlib import Path
from typing import Any, Final

from joules.core.errors import UserError
from joules.core.known import each_of
from joules.core.machine_facts import Component
from joules.core.units import joule_from_kwh
from joules.core.values import EnergyChoice, Tier
from joules.machine import gpus
from joules.meters import nvml, powercap
from joules.meters.reader import OwnReader

Components = dict[str, Component]

TIERS: Final[tuple[Tier, ...]] = ("estimated", "sampled", "measured")  # from the weakest on
COUNTER_MODES = ("intel_rapl", "windows_emi")  # CodeCarbon's names for counted CPU energy
COUNTED = (*COUNTER_MODES, "nvml_energy_counter")
HEADLINES: Final[dict[EnergyChoice, tuple[str, ...]]] = {
    "processor": ("cpu", "gpu"),
    "gpu": ("gpu",),
    "wall": (),  # by a meter of the configuration: joules.measure.named_meters
}
NOTHING = ("none", "off")
NAMES: Final = {"cpu": "CPU", "gpu": "GPU"}


@dataclasses.dataclass(frozen=True)
class Assessed:
    """The components, why each is no better than it is, and those that only CodeCarbon counts."""

    components: Components
    reasons: dict[str, str]
    unshared: list[str]


def processor_is_counted(reader: OwnReader) -> bool:
    """Return whether the own reader counts every package of the processor."""
    return not _why_not_counted(reader)


def _why_not_counted(reader: OwnReader) -> str:
    meter = reader.meter(powercap.Meter.LABEL)
    if not isinstance(meter, powercap.Meter):
        return "the own reader was given no counter of the processor."
    return meter.what_is_missing()


def cards_of(reader: OwnReader) -> list[nvml.Card]:
    """Return the cards that the driver lists."""
    meter = reader.meter(nvml.Meter.LABEL)
    return meter.cards if isinstance(meter, nvml.Meter) else []


def assess(tracker: Any, reader: OwnReader, sampling_interval_s: float) -> Assessed:
    """Return what the energy of each component comes from, as both readers set themselves up."""
    found = {name: Component("none") for name in ("cpu", "gpu", "dram")}
    found["ram_model"] = Component("off", power_w=0)
    assessed = Assessed(found, {}, [])
    hardware = {type(each).__name__: each for each in tracker._hardware}
    if "CPU" in hardware:
        _assess_processor(hardware["CPU"], reader, sampling_interval_s, assessed)
    elif chip := _chip_of(tracker):
        found["cpu"] = Component(chip, tier="estimated", sampling_interval_s=sampling_interval_s)
        assessed.reasons["cpu"] = f"CPU energy is what {chip} tells; no counter here is read twice."
    _assess_cards(hardware.get("GPU"), reader, sampling_interval_s, assessed)
    for part in ("dram", "psys"):
        files = [each.source for each in reader.channels if each.component == part]
        if files:
            found[part] = Component(
                "own_counter",
                tier="measured",
                files=files,
                wrap_range_j=reader.smallest_range_j(part),
                sampling_interval_s=reader.interval_s,
            )
    return assessed


def _chip_of(tracker: Any) -> str | None:
    """Return CodeCarbon's name for a processor that tells its own power; None without one."""
    chips = [each for each in tracker._hardware if getattr(each, "chip_part", None) == "CPU"]
    return type(chips[0]).__name__ if chips else None


def _assess_processor(
    processor: Any, reader: OwnReader, interval_s: float, assessed: Assessed
) -> None:
    files = getattr(getattr(processor, "_intel_interface", None), "_rapl_files", [])
    modelled = processor._mode not in COUNTER_MODES
    tier: Tier = "measured"
    if modelled:
        tier = "estimated"
        why = _why_not_counted(reader) or "the counters can be read, but CodeCarbon does not."
        assessed.reasons["cpu"] = f"CPU energy is a model ({processor._mode}): {why}"
    elif different := _read_differently([Path(file.path) for file in files], reader):
        tier = "estimated"
        assessed.unshared.append("cpu")
        assessed.reasons["cpu"] = different
    ranges = [joule_from_kwh(file.max_energy_reading.kWh) for file in files]
    assessed.components["cpu"] = Component(
        processor._mode,
        tier=tier,
        files=[file.path for file in files],
        wrap_range_j=ranges if each_of(ranges, lambda joules: joules > 0) else None,
        sampling_interval_s=interval_s,
        model_power_w=processor._tdp if modelled else None,
        generic_model=not processor_is_known() if modelled else None,
    )


def _read_differently(files: list[Path], reader: OwnReader) -> str:
    """Return how CodeCarbon's packages and those of the own reader differ; empty where not.

    Compared by name: of a counter and its MMIO copy each reader takes another one.
    """
    theirs = {_name_of(file) for file in files}
    meter = reader.meter(powercap.Meter.LABEL)
    ours: set[str] = set()
    twice: set[str] = set()
    if isinstance(meter, powercap.Meter):
        ours, twice = meter.package_names(), meter.mirrored_names()
    if theirs and ours - twice <= theirs <= ours:
        return ""
    return (
        f"CodeCarbon reads {', '.join(sorted(theirs)) or 'no package'} for the processor, the own "
        f"reader {', '.join(sorted(ours)) or 'no package'}. {_why_not_counted(reader)}".strip()
    )


def _name_of(file: Path) -> str:
    try:
        return (file.parent / "name").read_text().strip()
    except OSError:
        return str(file)


def processor_is_known() -> bool:
    """Return whether CodeCarbon knows the rated power of this processor.

    If not, it assumes 4 W per thread and does not say so.
    """
    from codecarbon.core import cpu
    from codecarbon.core.hardware_cache import get_cached_tdp

    table = get_cached_tdp(cpu)
    return bool(table.model and table._get_cpu_power_from_registry(table.model))


def _assess_cards(gpu: Any, reader: OwnReader, interval_s: float, assessed: Assessed) -> None:
    chosen = set(gpu._get_gpu_ids()) if gpu is not None else set()
    devices = [each for each in gpu.devices.devices if each.gpu_index in chosen] if chosen else []
    cards = cards_of(reader)
    ours = [each for each in reader.channels if each.component == "gpu"]
    if not devices:
        if cards:
            obstacles = "; ".join(f"{each.source} {each.obstacle}" for each in cards)
            assessed.components["gpu"] = Component("unread", tier="estimated", devices=len(cards))
            assessed.reasons["gpu"] = (
                f"The driver lists {len(cards)} GPU that CodeCarbon does not read: "
                f"{obstacles.strip()}."
            )
        return
    counted = each_of(devices, lambda device: device.last_energy is not None)
    tier: Tier = "measured" if counted else "sampled"
    if counted and len(ours) != len(devices):
        tier = "estimated"
        assessed.unshared.append("gpu")
        assessed.reasons["gpu"] = (
            f"CodeCarbon counts the energy of {len(devices)} GPU, the own reader of {len(ours)}."
        )
    elif not counted:
        assessed.reasons["gpu"] = "A GPU has no energy counter; its power is read once a second."
    assessed.components["gpu"] = Component(
        "nvml_energy_counter" if counted else "power_samples",
        tier=tier,
        devices=len(devices),
        sampling_interval_s=interval_s,
    )


def tier_of(assessed: Assessed, energy: EnergyChoice = "processor") -> tuple[Tier, str]:
    """Return the lowest tier of what the headline adds up, and why it is not higher.

    A component without energy has no tier. A headline of nothing is `estimated`.
    """
    parts = [each for each in HEADLINES[energy] if assessed.components[each].tier is not None]
    if not parts:
        return "estimated", "Nothing that the headline adds up has energy here."
    lowest = min(parts, key=lambda part: TIERS.index(_tier(assessed, part)))
    tier = _tier(assessed, lowest)
    beside = f" {processor_beside(assessed.components)}" if energy == "gpu" else ""
    if tier != "measured":
        return tier, assessed.reasons[lowest] + beside
    named = " and ".join(NAMES[each] for each in parts)
    verb = "come" if len(parts) > 1 else "comes"
    return tier, f"{named} energy {verb} from counters.{beside}"


def processor_beside(components: Components) -> str:
    """Return in a sentence what the processor's energy is where the headline leaves it out."""
    cpu = components["cpu"]
    if cpu.tier == "measured":
        return "The processor's energy is counted, and is no part of it."
    return f"The processor's energy is modelled ({cpu.source}), and is no part of it."


def _tier(assessed: Assessed, part: str) -> Tier:
    tier = assessed.components[part].tier
    assert tier is not None
    return tier


def require_tier(tier: Tier, reason: str, wanted: Tier) -> None:
    """Raise UserError when the machine's tier is below the one that the study asks for."""
    if TIERS.index(tier) < TIERS.index(wanted):
        raise UserError(
            f"This machine's energy tier is `{tier}`. {reason} "
            f"The study asks for `{wanted}`. Mend that, measure on another machine, "
            "or lower `require_tier` in the config and accept weaker claims."
        )


def require_headline(energy: EnergyChoice, components: Components) -> None:
    """Raise UserError where no energy is read of the component that makes the headline."""
    if energy == "processor" and components["cpu"].source in NOTHING:
        raise UserError(
            "CodeCarbon reads no energy of the processor here, and the study's headline is that of "
            "processor and GPU. Expected a processor that it reads or models. Measure on another "
            "machine, or take `energy: gpu` where a GPU computes."
        )
    if energy == "gpu" and components["gpu"].source in (*NOTHING, "unread"):
        raise UserError(
            "The study counts GPU energy alone (`energy: gpu`), and no GPU is seen here whose "
            "energy can be read. Expected an NVIDIA GPU with its driver. Measure on such a "
            "machine, or take `energy: processor`."
        )


def require_gpu_meter(gpu_layers: int | None) -> None:
    """Raise UserError where a GPU is to compute and no meter sees one: its energy would be lost.

    None: the runtime chooses, so that any GPU that is there may compute.
    """
    meter = nvml.Meter()
    if gpu_layers == 0 or meter.has_meter():
        return
    if gpu_layers is None:
        if there := [card.source for card in meter.cards] or gpus.devices():
            raise UserError(
                f"A runtime as installed may compute on a GPU, and there is one ({there[0]}) whose "
                "energy cannot be read: what it takes would be left out. Expected an NVIDIA GPU "
                "with its driver, or none. Measure on such a machine, or take the arms off that "
                "are `as_installed`."
            )
    else:
        raise UserError(
            f"The study lets a GPU compute (`settings.gpu_layers` is {gpu_layers}), and no GPU is "
            "seen here whose energy can be read: what it takes would be left out. Expected an "
            "NVIDIA GPU with its driver. Measure on such a machine, or set `gpu_layers` to 0."
        )
