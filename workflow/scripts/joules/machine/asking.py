"""Asking a library about a part of the machine that may not be there."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def known(
    function: Callable[Asked, Answer], *arguments: Asked.args, **named: Asked.kwargs
) -> Answer | None:
    """Return what a library's function says; None where it raises, whatever it raises.

    A part that is missing is told by psutil with OSError, NotImplementedError, RuntimeError,
    AttributeError or KeyError, by NVML with its own classes, by pathlib with RuntimeError: which
    one depends on the machine. Everything that the harness records and does not compute with is
    asked through here, so that a missing part is null in the record and ends no study.
    """
    try:
        return function(*arguments, **named)
    except Exception:  # of any class: see above
        return None
