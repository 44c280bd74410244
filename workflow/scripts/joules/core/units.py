"""Units: energy counters to joule, kilowatt-hours to joule."""

JOULE_PER_KWH = 3.6e6  # exact, by definition of the watt-hour
MICROJOULE = 1e-6


def joule_from_kwh(kwh: float) -> float:
    """Return joules. CodeCarbon 3.3.2 converts with 2.77778e-7, so expect 8e-7 relative error."""
    return kwh * JOULE_PER_KWH


def counter_delta_uj(before_uj: int, after_uj: int, range_uj: int) -> int:
    """Return the microjoules between two readings of a counter that wraps at `range_uj`.

    At most one wrap can be corrected, so read more often than the counter wraps (Linux kernel,
    Documentation/power/powercap/powercap.rst: `max_energy_range_uj`). A reset looks like a wrap;
    whoever calls must bound the result.
    """
    if after_uj >= before_uj:
        return after_uj - before_uj
    return after_uj - before_uj + range_uj
