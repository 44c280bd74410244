"""Attempts to break out of the sandbox; every one must be refused before a program is graded.

The text of this file is run as a program in the sandbox. Each attempt returns normally when it
succeeded and raises when it was refused. Standard library only.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import TypedDict

_libc = ctypes.CDLL(None, use_errno=True)


class Bait(TypedDict):
    """What the parent prepared for the attempts to reach; `joules.grade.sandbox.sandbox` makes it.

    `name` is that of a file that nobody has, of an abstract socket, and the content of `canary`.
    `shared` are device and number of folders that all may write to, `dataset` is HumanEval's file,
    `roots` are the folders to search for it ("": the standard library's), `capget` is a system
    call's number, `memory_bytes` the limit.
    """

    name: str
    canary: str
    socket: str
    port: int
    parent: int
    shared: list[list[int]]
    dataset: str
    roots: list[str]
    capget: int
    memory_bytes: int


def _must(result: int) -> None:
    """Raise when a C call reports an error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _read(path: str) -> None:
    """Read a file to its end."""
    with open(path, "rb") as file:
        file.read()


def _write(path: str, content: bytes) -> int:
    """Make a file, or write it anew; return its size."""
    with open(path, "wb") as file:
        return file.write(content)


def _any(*attempts: Callable[[], object]) -> None:
    """Run every attempt; raise only when all were refused."""
    refused = 0
    for attempt in attempts:
        try:
            attempt()
        except (OSError, MemoryError, ValueError):
            refused += 1
    if refused == len(attempts):
        raise OSError("refused")


def connect_over_tcp(bait: Bait) -> None:
    """Reach a TCP port of this machine."""
    socket.create_connection(("127.0.0.1", bait["port"]), 1).close()


def connect_to_an_abstract_socket(bait: Bait) -> None:
    """Reach an abstract Unix socket, as of a desktop session's bus."""
    socket.socket(socket.AF_UNIX).connect("\0" + bait["name"])


def send_a_datagram_to_a_path(bait: Bait) -> None:
    """Reach a Unix datagram socket on disk, also through one end of a pair."""
    _any(
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", bait["socket"]),
        lambda: socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b"x", bait["socket"]),
    )


def read_a_file_outside(bait: Bait) -> None:
    """Read a file of the user, or Python's own executable, which bubblewrap would show."""
    _any(lambda: _read(bait["canary"]), lambda: _read(sys.executable))


def read_the_environment(bait: Bait) -> None:
    """See environment variables of the parent, or any of its own."""
    if os.environ:
        return
    _any(
        *(
            lambda pid=pid: _read(f"/proc/{pid}/environ")
            for pid in ("self", os.getppid(), bait["parent"])
        )
    )


def write_a_file(bait: Bait) -> None:
    """Write, truncate or make a file anywhere but in a scratch folder that nobody else sees."""
    for folder in ("/tmp", "/var/tmp", "."):
        path = os.path.join(folder, bait["name"])
        with contextlib.suppress(OSError):
            _write(path, b"")
            found = os.stat(folder)
            os.unlink(path)
            if [found.st_dev, found.st_ino] in bait["shared"]:
                return
    folders = ["/", "/dev/shm", os.path.dirname(bait["canary"]), os.path.dirname(os.__file__)]
    names = [os.path.join(folder, bait["name"]) for folder in folders]
    _any(
        *(lambda name=name: open(name, "w").close() for name in names),
        lambda: open(bait["canary"], "w").close(),
        lambda: os.close(os.open(bait["canary"], os.O_RDONLY | os.O_TRUNC)),
    )


def fill_the_scratch_folder(bait: Bait) -> None:
    """Keep more in files than some MB, or more than some hundred files."""
    names = [f"{bait['name']}-{number}" for number in range(1000)]
    try:
        _any(
            lambda: [_write(name, bytes(2 << 20)) for name in names[:16]],
            lambda: [_write(name, b"") for name in names],
        )
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name)


def use_up_what_is_counted_per_user(bait: Bait) -> None:
    """Hold what the kernel limits per user: then others of that user have less or none.

    Descriptors in flight, pages of pipes, timers and queued signals, watches, keys, locked memory.
    """
    ours, _ = socket.socketpair()
    reading, _ = os.pipe()
    calls = {"x86_64": (294, 248), "aarch64": (26, 217)}[os.uname().machine]
    new = ctypes.create_string_buffer(8)
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    _any(
        lambda: socket.send_fds(ours, [b"x"], [reading]),
        lambda: fcntl.fcntl(reading, 1031, 1 << 20),
        lambda: _must(_libc.timer_create(1, None, new)),
        lambda: os.kill(os.getpid(), signal.SIGRTMIN),
        lambda: _must(_libc.syscall(calls[0], 0)),
        lambda: _must(_libc.syscall(calls[1], b"user", b"probe", b"x", 1, -3)),
        lambda: _must(_libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE))),
    )


def change_metadata(bait: Bait) -> None:
    """Change mode, times or extended attributes of a file."""
    canary = bait["canary"]
    _any(
        lambda: os.chmod(canary, 0o600),
        lambda: os.utime(canary, (1, 1)),
        lambda: os.setxattr(canary, "user.probe", b"1"),
        lambda: _must(_libc.syscall(452, -100, canary.encode(), 0o600, 0)),
    )


def start_a_process(bait: Bait) -> None:
    """Fork by any of the system calls that can."""

    def child_ends(pid: int) -> None:
        if pid == 0:
            os._exit(0)
        _must(pid)

    _any(
        lambda: child_ends(os.fork()),
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: child_ends(_libc.fork()),
    )


def replace_the_process(bait: Bait) -> None:
    """Run another executable; when it works there is no answer, which counts as an escape."""
    os.execv("/bin/true", ["true"])


def signal_another_process(bait: Bait) -> None:
    """Signal the parent, the zygote, the group or everybody (signal 0 only asks)."""
    _any(*(lambda pid=pid: os.kill(pid, 0) for pid in (os.getppid(), bait["parent"], 0, -1)))


def trace_another_process(bait: Bait) -> None:
    """Attach to a process or read its memory."""
    _any(
        lambda: _must(_libc.ptrace(0x4206, os.getppid(), 0, 0)),
        lambda: open(f"/proc/{os.getppid()}/mem", "rb").close(),
        lambda: open("/proc/self/mem", "rb").close(),
    )


def have_the_kernel_send_signals(bait: Bait) -> None:
    """Direct a descriptor's signals at another process (F_SETOWN, F_SETSIG, O_ASYNC)."""
    end, _ = os.pipe()
    harmless = 23  # SIGURG, which is ignored by default
    _any(
        lambda: fcntl.fcntl(end, 10, harmless),
        lambda: fcntl.fcntl(end, 8, os.getppid()),
        lambda: fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK | 0x2000),
    )


def outlive_the_sandbox(bait: Bait) -> None:
    """Clear the parent-death signal, leave the session, or become traceable."""
    _any(
        lambda: _must(_libc.prctl(1, 0, 0, 0, 0)),
        lambda: _must(_libc.prctl(4, 1, 0, 0, 0)),
        os.setsid,
    )


def raise_a_limit(bait: Bait) -> None:
    """Lift the memory limit, or set any limit anew."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY:
        return
    _any(
        lambda: resource.setrlimit(resource.RLIMIT_AS, (soft, hard)),
        lambda: resource.prlimit(os.getpid(), resource.RLIMIT_AS, (soft, hard)),
    )


def use_more_memory_than_allowed(bait: Bait) -> None:
    """Allocate twice the limit."""
    mmap.mmap(-1, 2 * bait["memory_bytes"]).close()


def use_an_inherited_descriptor(bait: Bait) -> None:
    """Find a descriptor beside the standard streams and the pipe pair."""
    _any(*(lambda number=number: os.fstat(number) for number in range(5, 64)))


def have_a_capability(bait: Bait) -> None:
    """Keep a capability, or be able to gain one (no_new_privs unset)."""
    if _libc.prctl(39, 0, 0, 0, 0) != 1:
        return
    sets = (ctypes.c_uint32 * 6)()
    _must(_libc.syscall(bait["capget"], (ctypes.c_uint32 * 2)(0x20080522, 0), sets))
    if not any(sets):
        raise OSError("none left")


def _opens(folder: str) -> bool:
    """Tell whether a file of a folder can be opened; one without files counts as open."""
    files = [entry.path for entry in os.scandir(folder) if entry.is_file()][:2]
    for path in files:
        with contextlib.suppress(OSError):
            _read(path)
            return True
    return not files


def find_the_answers(bait: Bait) -> None:
    """Find a copy of HumanEval in anything that is readable."""
    with contextlib.suppress(OSError):
        return _read(bait["dataset"])
    copies = []
    answers = re.compile("[_-]*".join("humaneval"), re.IGNORECASE)
    for root in bait["roots"]:
        for folder, folders, files in os.walk(root or os.path.dirname(os.__file__)):
            if os.path.basename(folder) in ("site-packages", "dist-packages"):
                folders[:] = [name for name in folders if _opens(os.path.join(folder, name))]
            if answers.search("/".join(files)):  # one search per folder: there are thousands
                found = filter(answers.search, files)
                copies += [os.path.join(folder, name) for name in found]
    _any(*(lambda path=path: _read(path) for path in copies))


def use_a_kernel_back_door(bait: Bait) -> None:
    """Make a user name space, an io_uring, or a file in memory."""
    _any(
        lambda: _must(_libc.unshare(0x10000000)),
        lambda: _must(_libc.syscall(425, 4, ctypes.create_string_buffer(120))),
        lambda: os.close(os.memfd_create("probe")),
    )


ATTEMPTS = {
    attempt.__name__: attempt
    for attempt in (
        use_an_inherited_descriptor,  # first: later attempts leave descriptors open
        connect_over_tcp,
        connect_to_an_abstract_socket,
        send_a_datagram_to_a_path,
        read_a_file_outside,
        read_the_environment,
        write_a_file,
        fill_the_scratch_folder,
        use_up_what_is_counted_per_user,
        change_metadata,
        start_a_process,
        replace_the_process,
        signal_another_process,
        trace_another_process,
        have_the_kernel_send_signals,
        outlive_the_sandbox,
        raise_a_limit,
        use_more_memory_than_allowed,
        have_a_capability,
        find_the_answers,
        use_a_kernel_back_door,
    )
}


def probe(name: str, bait: Bait) -> str:
    """Return "refused" when the attempt raised an ordinary error, else "escaped"."""
    try:
        ATTEMPTS[name](bait)
    except (OSError, MemoryError, ValueError):
        return "refused"
    return "escaped"
