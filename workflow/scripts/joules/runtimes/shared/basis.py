"""What all runtimes share, whatever they are: their name, and what is true unless one says else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from joules.core.errors import UserError
from joules.core.inference import Facts, Model, Options, Settings
from joules.runtimes import Preview


class RuntimeBasis:
    """The part of `joules.runtimes.Runtime` that differs in few runtimes."""

    LABEL = ""
    DESCRIPTION = ""
    LIMITATIONS: tuple[str, ...] = ()
    TRIALS: Mapping[str, str] = {}
    CANNOT_HOLD: frozenset[str] = frozenset()
    PACKAGES: tuple[str, ...] = ()
    OPTIONS: tuple[str, ...] = ("version",)
    IMPORTS = False

    @classmethod
    def name(cls) -> str:
        """Return the runtime's name: that of its module."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return that it will be checked; of what was provided, whether its binary is there."""
        if provided is None:
            binary = options.get("binary")
            if binary and not os.access(binary, os.X_OK):
                text = f"`binary` is {binary!r}; expected a program that is there"
                return Preview(text, possible=False)
            return Preview("will be checked when the study starts")
        binary = provided.get("binary")
        if binary and not Path(binary).exists():
            return Preview(f"{binary} is gone", possible=False)
        return Preview("provided")

    def import_model(self, model: Model) -> None:
        """Do nothing: most runtimes read the model's file where it lies."""

    def holder(self) -> int | None:
        """Return that it is not known which process holds the weights."""
        return None

    def check_held(self, settings: Settings) -> None:
        """Raise UserError for answers of fixed length where the end of text always ends them."""
        if settings.ignore_eos and "ignore_eos" in self.CANNOT_HOLD:
            raise UserError(
                f"The setting `ignore_eos` is on, but {self.LABEL} always stops at the end of "
                f"text. Expected it off. Take `fixed` off `kinds`, or {self.LABEL} off `runtimes`."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process; each kind of runtime knows its own."""
        raise NotImplementedError
