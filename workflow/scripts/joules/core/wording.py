"""Numbers and lists as the article prints them."""

import re
from collections.abc import Mapping, Sequence

SIGNIFICANT_DIGITS = 3
NOTHING = "none"  # printed where a claim has no value, as J per correct answer when none was


def significant(value: float | None, digits: int = SIGNIFICANT_DIGITS) -> str:
    """Return `value` with `digits` significant digits: 0.0412, 12.3, 1,230, 4.12 × 10⁻⁵."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa} × 10{raised}"
    rounded = float(f"{value:.{digits}g}")
    decimals = max(0, digits - len(f"{abs(int(rounded))}")) if abs(rounded) >= 1 else None
    if decimals is not None:
        return f"{rounded:,.{decimals}f}"
    leading_zeros = len(re.match(r"0\.(0*)", f"{abs(rounded):.9f}")[1])  # type: ignore[index]
    return f"{rounded:.{leading_zeros + digits}f}"


def p_value(value: float | None) -> str:
    """Return a p-value as `0.0625`, or `< 0.001` below that."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.4f}".rstrip("0").rstrip(".")


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share of one as a percentage, `12 %`, which no line break parts."""
    return (
        NOTHING
        if share is None
        else f"{significant(share * 100, digits).removesuffix('.0')}\u00a0%"
    )


def cell_text(value: object) -> str:
    """Return `value` as text that is safe inside a cell of a Markdown table, never empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, Mapping):
        said = [(key, item) for key, item in value.items() if item not in (None, "", [], {})]
        text = ", ".join(f"{key} {item}".replace("_", " ") for key, item in said)
    elif isinstance(value, (list, tuple)):
        text = ", ".join(str(item) for item in value)
    else:
        text = "" if value is None else str(value)
    # Two hyphens, as of a program's option, would be set as a dash.
    special = r"([\\`*_\[\]<>|@$^~#]|-(?=-))"
    return re.sub(special, r"\\\1", " ".join(text.split())) or "not recorded"


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def words(count: int) -> str:
    """Return a small count in words, a larger one in digits."""
    small = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return small[count] if count < len(small) else f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, as `one block` or `five blocks`."""
    return f"{words(count)} {noun}{'' if count == 1 else 's'}"


def number_of(count: int, noun: str) -> str:
    """Return a count in digits with its noun, as `1 block` or `1,200 blocks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
