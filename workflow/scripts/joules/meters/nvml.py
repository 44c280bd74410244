"""Energy counters of NVIDIA GPUs (NVML, nvmlDeviceGetTotalEnergyConsumption)."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from joules.core.inference import Facts, Options
from joules.meters import check_options
from joules.meters.meter import Channel, Reading

RANGE_J = 2**64 / 1000  # the driver gives millijoules in 64 bits


@dataclasses.dataclass(frozen=True)
class Card:
    """One card that the driver lists.

    `handle` is None where the driver does not give one; then `obstacle` says why. `counted`: it has
    an energy counter; `powered`: its power can be read.
    """

    index: int
    handle: Any
    counted: bool
    powered: bool
    power_limit_w: float | None
    obstacle: str = ""

    @property
    def source(self) -> str:
        """Its name in records."""
        return f"NVML device {self.index}"


def _asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the driver answers, or None: it raises for what a card does not have."""
    try:
        return function(*arguments)
    except Exception:  # its own classes, and others when the driver is gone
        return None


class Meter:
    """The energy counter of every NVIDIA card that the driver lists."""

    LABEL = "NVML"
    DESCRIPTION = (
        "Each NVIDIA card counts its own energy since its driver was loaded, and the driver tells "
        "it through its library NVML."
    )
    COMPONENTS = ("gpu",)
    ALWAYS_READ = True
    ANSWERS_AT_ONCE = True

    def __init__(self, options: Options | None = None) -> None:
        check_options("nvml", options)
        self.cards: list[Card] = []
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._nvml = pynvml
        except Exception:  # the library raises its own classes, all meaning: no GPU to read
            count = 0
        for index in range(count):
            self.cards.append(self._card_of(index))
        self._read = [card for card in self.cards if card.counted]
        self.channels = [
            Channel("gpu", each.source, each.source, RANGE_J, each.power_limit_w)
            for each in self._read
        ]

    def _card_of(self, index: int) -> Card:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except Exception as error:
            return Card(index, None, False, False, None, f"gives no handle ({error})")
        limit = _asked(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)  # mW
        return Card(
            index,
            handle,
            _asked(nvml.nvmlDeviceGetTotalEnergyConsumption, handle) is not None,
            _asked(nvml.nvmlDeviceGetPowerUsage, handle) is not None,
            limit / 1000 if limit else None,
        )

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def has_meter(self) -> bool:
        """Return whether there is a card whose energy or power can be read."""
        return any(card.counted or card.powered for card in self.cards)

    def without_handle(self) -> list[str]:
        """Return the cards that the driver lists and gives no handle of, with its reason."""
        return [f"{card.source} {card.obstacle}" for card in self.cards if card.obstacle]

    def facts(self) -> Facts:
        """Return the cards that are counted, and those that are there and are not."""
        return {
            "devices": [channel.source for channel in self.channels],
            "uncounted": [card.source for card in self.cards if not card.counted],
            "without_handle": self.without_handle(),
        }

    def read(self) -> list[Reading | None]:
        """Return joules and power of each counted card; None for one that cannot be read now."""
        return [self._reading_of(card) for card in self._read]

    def _reading_of(self, card: Card) -> Reading | None:
        energy_mj = _asked(self._nvml.nvmlDeviceGetTotalEnergyConsumption, card.handle)
        if energy_mj is None:
            return None
        moment_s = time.monotonic()
        power_mw = _asked(self._nvml.nvmlDeviceGetPowerUsage, card.handle) if card.powered else None
        return Reading(moment_s, energy_mj / 1000, None if power_mw is None else power_mw / 1000)
