"""A child process with packages of its own, which is asked for a reading by a line and answers one.

It runs in `.venvs/<environment>`. What it must know, a password too, it gets on its standard input:
neither command line nor environment of a process is private. It ends with its input.
"""

import contextlib
import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

from joules.core.errors import UserError
from joules.machine import virtual_environments
from joules.machine.processes import minimal_environment
from joules.meters.meter import Unreachable

CHILDREN = Path(__file__).parent / "children"
MISSING = "missing"  # the key of an answer that names a package which is not there
START_S = 30.0  # more for the first answer: a busy or slow machine reads packages for seconds
END_S = 0.5  # until it has ended by itself
READ_S = 10.0  # until what an ended program wrote has been read, which takes no time


class Child:
    """One program of `children`, asked by `ask`; it is started anew when it has ended.

    Args:
        environment: the folder of `.venvs` that has its packages.
        program: its file in `children`.
        greeting: what it gets first.
        timeout_s: within which it must answer; its first answer may take `START_S` more.
    """

    def __init__(
        self, environment: str, program: str, greeting: dict[str, Any], timeout_s: float
    ) -> None:
        self._environment, self._program = environment, program
        self._greeting, self._timeout_s = greeting, timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread()

    def first(self) -> dict[str, Any]:
        """Return its first answer, as `ask` does; without one, it is ended."""
        try:
            return self.ask()
        except BaseException:
            self.close()
            raise

    def ask(self) -> dict[str, Any]:
        """Return its next answer. Raises Unreachable without one, UserError without packages."""
        process, timeout_s = self._process, self._timeout_s
        try:
            if process is None or process.poll() is not None:
                process, timeout_s = self._start(), timeout_s + START_S
            self._tell(process, {})
            answer = json.loads(self._answers.get(timeout=timeout_s))
        except (OSError, queue.Empty, ValueError):
            self.close()
            raise Unreachable(
                f"The program that reads the meter ({self._program}) gave no answer within "
                f"{timeout_s:g} s; expected a reading. Look whether the device has power and "
                "is in this network, and whether the options fit it."
            ) from None
        if MISSING in answer:
            raise UserError(
                f"The Python package {answer[MISSING]} is not installed; expected it in "
                f".venvs/{self._environment}. Install it: "
                f"{' '.join(virtual_environments.INSTALL)} {self._environment.replace('-', ' ')}"
            )
        return dict(answer)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(READ_S)
        if process.stdout is not None and not self._reader.is_alive():
            process.stdout.close()

    def _start(self) -> subprocess.Popen[str]:
        self.close()
        python = virtual_environments.python_of(self._environment)
        process = subprocess.Popen(
            [python, "-I", "-u", str(CHILDREN / self._program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=minimal_environment(),
            start_new_session=True,  # Ctrl-C is for us; it ends with its input
        )
        assert process.stdout is not None
        self._process, self._answers = process, queue.Queue()
        arguments = (process.stdout, self._answers)
        self._reader = threading.Thread(target=_pass_on, args=arguments, daemon=True)
        self._reader.start()
        self._tell(process, self._greeting)
        return process

    @staticmethod
    def _tell(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def _pass_on(lines: IO[str], answers: queue.Queue[str]) -> None:
    """Hand on each line, and at the end one that is no answer."""
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in lines:
            answers.put(line)
    answers.put("")
