"""How arms and their settings are called in sentences and cells."""

from collections.abc import Sequence

from joules.core.inference import Scalar

OWN_CHOICE_SHOWN = "its own choice"
OWN_CHOICE_HIDDEN = "its own choice, not shown"


def in_sentence(label: str) -> str:
    """Return a label as a sentence takes it: `Ollama (as installed)` for `Ollama, as installed`."""
    head, comma, rest = label.partition(", ")
    return f"{head} ({rest})" if comma else label


def setting_words(name: str) -> str:
    """Return the name of a setting in words, as `KV cache`."""
    words = name.replace("_", " ").replace("kv cache", "KV cache")
    return words.replace("gpu", "GPU").replace("eos", "end of text")


def value_words(value: Scalar | Sequence[int]) -> str:
    """Return the value of a setting as a table has it; None is the runtime's own choice."""
    if value is None:
        return OWN_CHOICE_SHOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def state_words(value: Scalar | Sequence[int]) -> str:
    """Return the value of a setting as a sentence has it, where a switch is on or off."""
    return ("on" if value else "off") if isinstance(value, bool) else value_words(value)
