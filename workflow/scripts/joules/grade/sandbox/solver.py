"""One program under test, in a process of its own: confines itself, defines the program, answers.

The zygote forks a solver for each program. What a solver needs is prepared and rehearsed before:
each page of memory that it writes to has to be copied, and that is most of what a solver costs.
Loaded inside the sandbox: standard library only.
"""

import io
import os
import resource
import struct
import types
from collections.abc import Callable
from typing import NamedTuple

from joules.grade.sandbox import confinement, judge, plain_data, seccomp

REQUESTS, ANSWERS = 3, 4

# Of the size and kind of a usual answer.
REHEARSAL = '''
from typing import List, Tuple
import math

def helper(number):
    return [digit for digit in str(number) if digit.isdigit()]

def rehearsed(numbers: List[float], text: str = "") -> Tuple[float, str]:
    """ Take numbers and a text, and return a number and a text.
    >>> rehearsed([1.0, 2.0], "a")
    (3.0, "a")
    """
    total, seen = 0.0, {}
    for place, number in enumerate(numbers):
        for other in range(place + 1, len(numbers)):
            if abs(number - numbers[other]) < 0.5 and number not in seen:
                seen[number] = seen.get(number, 0) + 1
        total += math.floor(number)
    words = sorted(set(text.split()), key=lambda word: (len(word), word))
    while len(words) > 1:
        words.pop()
    try:
        return total + int("".join(helper(total))), "%s" % words[0]
    except (ValueError, IndexError):
        return total, text
'''


class Silence(io.TextIOBase):
    """Standard output of a solver: takes everything and keeps nothing."""

    def write(self, text: str, /) -> int:
        """Drop the text."""
        return len(text)

    def writable(self) -> bool:
        """Tell that writing works."""
        return True


class NoInput(io.TextIOBase):
    """Standard input of a solver: reading fails."""

    def read(self, size: int | None = -1, /) -> str:
        """Raise OSError."""
        raise OSError("there is no standard input")

    readline = read  # type: ignore[assignment]

    def readable(self) -> bool:
        """Tell that this is an input."""
        return True


class Inherited(NamedTuple):
    """What the zygote makes once for all solvers: each of them then needs less time.

    The steps of confinement raise CannotConfine or OSError where they fail.
    """

    die_with_zygote: Callable[[], None]
    enter_scope: Callable[[], None] | None
    limits: dict[int, tuple[int, int]]
    filter: seccomp.SolverFilter


def inherited(
    landlock_abi: int, memory_bytes: int, cpu_s: float, threads: int | None, file_bytes: int
) -> Inherited:
    """Prepare what solvers inherit from this process, the zygote."""
    limits = confinement.solver_limits(memory_bytes, threads, file_bytes)
    whole_s = int(-(-cpu_s // 1))
    return Inherited(
        die_with_zygote=confinement.dying_with(os.getpid()),
        enter_scope=confinement.entering_scope(landlock_abi),
        limits=limits | {resource.RLIMIT_CPU: (whole_s, whole_s + 1)},
        filter=seccomp.SolverFilter(os.uname().machine),
    )


def become_solver(descriptors: list[int], inherited: Inherited) -> None:
    """Confine this fresh child and tell the judge. Leaves only the two pipe ends open."""
    os.setsid()
    inherited.die_with_zygote()
    if inherited.enter_scope is not None:
        inherited.enter_scope()
    high = [os.dup2(descriptor, 100 + i) for i, descriptor in enumerate(descriptors)]
    null = os.open("/dev/null", os.O_RDWR)  # its own: two programs share no open file
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(high[0], REQUESTS)
    os.dup2(high[1], ANSWERS)
    os.closerange(5, 256)
    confinement.set_limits(inherited.limits)
    inherited.filter.install()
    write_frame(ANSWERS, judge.READY)


def run_solver(module: types.ModuleType, requests: int = REQUESTS, answers: int = ANSWERS) -> None:
    """Define the program in `module`, then answer one call after another until the pipe closes.

    Answers: S (does not compile), M (out of memory), E + class name (raised), R (ready),
    V + plain data (value).
    """
    request = read_frame(requests, followed=True)  # by the first call, to be read once defined
    if request is None:
        return
    entry_point, program = judge.program_of(request)
    try:
        code = compile(program, "<program>", "exec")
    except Exception as error:
        write_frame(answers, b"S" + describe(error))
        return
    try:
        exec(code, module.__dict__)
        function = module.__dict__[entry_point]
    except MemoryError:
        write_frame(answers, b"M")
        return
    except BaseException as error:
        write_frame(answers, b"E" + describe(error))
        return
    write_frame(answers, b"R")
    while (request := read_frame(requests)) is not None:
        try:
            answer = b"V" + plain_data.dumps(function(*plain_data.loads(request)))
        except MemoryError:
            answer = b"M"
        except BaseException as error:
            answer = b"E" + describe(error)
        write_frame(answers, answer)


def describe(error: BaseException) -> bytes:
    """Name an exception: its class, and the module for a missing one.

    Messages are left out: they can hold addresses, and equal completions must give equal verdicts.
    """
    name = type(error).__name__[:80]
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        name += f" {error.name[:80]}"
    return ascii(name)[1:-1].encode("ascii")


def read_frame(descriptor: int, followed: bool = False) -> bytes | None:
    """Read one length-prefixed message, or None at the end of the stream.

    One message is sent at a time, so what comes with its head is its body; unless it may be
    `followed` by another one, which is then left in the pipe.
    """
    data = b""
    size = 4
    while len(data) < size:
        chunk = os.read(descriptor, size - len(data) if followed else 65536)
        if not chunk:
            return None
        data += chunk
        if len(data) >= 4:
            size = 4 + struct.unpack("I", data[:4])[0]
    return data[4:]


def write_frame(descriptor: int, data: bytes) -> None:
    """Write one length-prefixed message."""
    data = struct.pack("I", len(data)) + data
    while data:
        data = data[os.write(descriptor, data) :]


def rehearse() -> None:
    """Do what solvers do, with a program of ours.

    It leaves room in memory next to what they use anyway.
    """
    for _ in range(3):
        requests, ours = os.pipe()
        theirs, answers = os.pipe()
        write_frame(ours, judge.message_of("rehearsed", REHEARSAL))
        write_frame(ours, plain_data.dumps(([1.5, 2], "a b")))
        os.close(ours)
        run_solver(types.ModuleType("program"), requests, answers)
        for end in (requests, theirs, answers):
            os.close(end)
