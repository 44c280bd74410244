"""Standard output in colours, for the commands whose findings are read by people."""

from rich.console import Console

from joules.commands import command_line


class Screen(Console):
    """Standard output with colours where it is a terminal; no line is broken in two."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False)

    def on_broken_pipe(self) -> None:
        """Go on without output, so that the exit status is that of the whole command."""
        command_line.forget_output()
