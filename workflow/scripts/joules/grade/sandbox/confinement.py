"""How one Linux process confines itself for good: Landlock, capabilities and limits.

Nothing here needs root, a package or a name space. Sources: Linux Documentation,
userspace-api/landlock.rst; man pages landlock(7), prctl(2), getrlimit(2) and capabilities(7).
Loaded inside the sandbox: standard library only.
"""

import ctypes
import functools
import glob
import os
import resource
import stat
import struct
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 28, 38, 47
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE = 1 << 14
_IN_SCRATCH = _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _MAKE_FILE | _MAKE_DIR
_IN_SCRATCH |= _REMOVE_FILE | _REMOVE_DIR
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 2, 4, 8, 1024
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
SCRATCH_BYTES, SCRATCH_FILES = 8 << 20, 256
OWN_THREADS = 400

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class CannotConfine(Exception):
    """A step of the confinement failed; the process must not run untrusted code."""


def _call(step: str, number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise CannotConfine(f"{step}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(step: str, option: int, *arguments: object) -> None:
    padded = list(arguments) + [ctypes.c_ulong(0)] * (4 - len(arguments))
    if _libc.prctl(option, *padded) != 0:
        raise CannotConfine(f"{step}: {os.strerror(ctypes.get_errno())}")


def landlock_abi() -> int:
    """Return the version of Landlock that this kernel offers, 0 for none."""
    version = _libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), 1)
    return max(0, int(version))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; leave if `parent` is already gone.

    Also makes the process closed to ptrace and to /proc of other processes.
    """
    dying_with(parent)()


def dying_with(parent: int) -> Callable[[], None]:
    """Prepare `die_with_parent`, for the children that process `parent` will have."""
    zero = ctypes.c_ulong(0)
    calls = [
        functools.partial(_libc.prctl, option, ctypes.c_ulong(value), zero, zero, zero)
        for option, value in ((_PR_SET_PDEATHSIG, 9), (_PR_SET_DUMPABLE, 0))
    ]

    def bind() -> None:
        if any(call() != 0 for call in calls):
            raise CannotConfine("this process cannot be bound to its parent")
        if os.getppid() != parent:
            os._exit(0)

    return bind


def drop_capabilities() -> None:
    """Give up every capability and the bounding set; does nothing in a process without any."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    number = {"x86_64": 126, "aarch64": 91}[os.uname().machine]
    _call("capget", number - 1, header, sets)
    if not any(sets):
        return
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(4), 0, 0, 0)
    _libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(0x2F), 0, 0, 0)
    _call("capset", number, header, (ctypes.c_uint32 * 6)())


def thread_limit() -> int | None:
    """Return a value for RLIMIT_NPROC, or None where the kernel would ignore it.

    The limit counts the user's threads everywhere, so root first takes a real uid that nobody
    uses. The effective uid stays: it may be the only one that can read this Python.
    """
    user = os.getuid()
    if user == 0:
        try:
            os.setresuid(2_000_000_000 + os.getpid(), -1, -1)
        except OSError:
            return None
        return 200
    threads = 0
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
            if int(fields["Uid"].split()[0]) == user:
                threads += int(fields["Threads"])
        except (OSError, KeyError, ValueError, IndexError):
            continue
    return threads + OWN_THREADS


def readable_paths() -> tuple[list[str], list[str]]:
    """Return what a confined process may read (standard library, C libraries) and may list.

    Folders that hold other packages are left out entry by entry, because Landlock cannot exclude
    part of an allowed folder and HumanEval's answers lie in site-packages.
    """
    standard = [os.path.realpath(path) for path in sys.path if os.path.isdir(path)]
    loose = [os.path.dirname(path) for path in standard] + ["/lib", "/usr/lib", "/usr/local/lib"]
    paths = ["/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom"]
    for folder in sorted(standard):
        paths += _without_packages(folder)
    paths += system_folders(files=True)
    for folder in sorted({os.path.realpath(folder) for folder in loose}):
        paths += glob.glob(folder + "/lib*.so*")
    return paths, standard


def system_folders(files: bool = False) -> list[str]:
    """Return the folders, with `files` also the files, that hold the system's C libraries."""
    roots = ["/lib64", "/usr/lib64", *glob.glob("/lib/*-linux-*"), *glob.glob("/usr/lib/*-linux-*")]
    entries = []
    for root in sorted(set(map(os.path.realpath, roots))):
        entries += _without_packages(root)
    return [path for path in entries if files or os.path.isdir(path)]


def _without_packages(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    left_out = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip"}
    kept = [
        os.path.join(folder, name)
        for name in names
        if name not in left_out
        and not (name.startswith("python") and os.path.isdir(os.path.join(folder, name)))
    ]
    return kept if len(kept) < len(names) else [folder]  # each rule costs time in every solver


def own_scratch(readable: list[str]) -> str | None:
    """Lay an empty file system in memory over /tmp or /var/tmp, seen by this process alone.

    It ends with the process and its children, and cannot hold more than 8 MiB in 256 files.
    Where the machine allows it, this process also becomes a user whose threads and signals the
    kernel counts apart. None where a private view of the file system cannot be had, or where
    something `readable` lies in both folders. Leaves this process open to others of its user:
    `die_with_parent` has to follow.
    """
    folder = next((f for f in ("/tmp", "/var/tmp") if _can_be_covered(f, readable)), None)
    if folder is None:
        return None
    _prctl("dumpable", _PR_SET_DUMPABLE, ctypes.c_ulong(1))
    if _libc.unshare(_CLONE_NEWNS) != 0:
        user, group = os.geteuid(), os.getegid()
        if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
            return None
        try:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{user} {user} 1"),
                ("gid_map", f"{group} {group} 1"),
            ):
                with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        except OSError:
            return None
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
    options = f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=700"
    if _mount(None, "/", None, _MS_REC | _MS_PRIVATE, "") or _mount(
        "tmpfs", folder, "tmpfs", flags, options
    ):
        return None
    os.chdir(folder)
    return folder


def _can_be_covered(folder: str, readable: list[str]) -> bool:
    return os.path.realpath(folder) == folder and not any(
        path.startswith(folder + "/") for path in map(os.path.realpath, readable)
    )


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str) -> int:
    texts = [text if text is None else text.encode() for text in (source, target, kind)]
    result: int = _libc.mount(*texts, ctypes.c_ulong(flags), options.encode())
    return result


def restrict_files(
    readable: list[str],
    listable: list[str],
    writable: list[str],
    abi: int,
    scratch: str | None = None,
) -> None:
    """Allow reading `readable`, listing `listable` and writing `writable`; nothing else on disk.

    In the folder `scratch`, files and folders can be made, read, written and removed.

    Also shuts out TCP (Landlock ABI 4) and signals and abstract sockets to the outside (ABI 6)
    where `abi` offers it; seccomp shuts them out as well. Raises CannotConfine.
    """
    if abi < 1:
        raise CannotConfine("Landlock is not available")
    handled = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}.get(
        abi, (1 << 16) - 1
    )
    attributes = struct.pack("QQQ", handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(
        "landlock_create_ruleset", _CREATE_RULESET, attributes, ctypes.c_size_t(size), 0
    )
    for paths, access in (
        (readable, _READ_FILE | _READ_DIR),
        (listable, _READ_DIR),
        (writable, _READ_FILE | _WRITE_FILE),
        ([scratch] if scratch else [], _IN_SCRATCH),
    ):
        for path in paths:
            try:
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            folder = stat.S_ISDIR(os.fstat(handle).st_mode)
            granted = access if folder else access & (_READ_FILE | _WRITE_FILE)
            if granted:
                rule = struct.pack("=QI", granted & handled, handle)
                _call("landlock_add_rule " + path, _ADD_RULE, ruleset, 1, rule, 0)
            os.close(handle)
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    enter_ruleset(ruleset)
    os.close(ruleset)


def entering_scope(abi: int) -> Callable[[], None] | None:
    """Prepare a Landlock rule set that only shuts out signals and abstract sockets.

    A process that calls what is returned cannot reach even its siblings in the same sandbox. None
    below ABI 6.
    """
    if abi < 6:
        return None
    attributes = struct.pack("QQQ", 0, 0, 3)
    ruleset = _call("scope rule set", _CREATE_RULESET, attributes, ctypes.c_size_t(24), 0)
    call = functools.partial(_libc.syscall, *map(ctypes.c_long, (_RESTRICT_SELF, ruleset, 0)))

    def enter_scope() -> None:
        if call() != 0:
            raise CannotConfine("this process cannot enter its scope")

    return enter_scope


def enter_ruleset(ruleset: int) -> None:
    """Confine this process by a Landlock rule set. Raises CannotConfine."""
    _call("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)


def solver_limits(
    memory_bytes: int, threads: int | None, file_bytes: int
) -> dict[int, tuple[int, int]]:
    """Return soft and hard limits of one solver by kind, none above what this process may have."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_SIGPENDING: 64,
        resource.RLIMIT_STACK: 64 << 20,
    }
    if threads is not None:
        limits[resource.RLIMIT_NPROC] = threads
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        limits[kind] = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return {kind: (value, value) for kind, value in limits.items()}


def set_limits(limits: dict[int, tuple[int, int]]) -> None:
    """Set limits by kind; their owner cannot raise the hard ones again, not even as root."""
    for kind, pair in limits.items():
        resource.setrlimit(kind, pair)
