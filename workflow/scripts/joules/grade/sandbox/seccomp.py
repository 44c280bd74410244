"""System call filters (seccomp-bpf): a list of what is allowed; all else gets "not permitted".

Two filters are stacked. `starter_filter` is heavy and installed once, in the process that starts
solvers; `SolverFilter` is short, installed in each solver, and takes away starting processes,
signalling others and changing limits. Sources: Linux Documentation,
userspace-api/seccomp_filter.rst; seccomp(2). Numbers: the kernel's unistd headers.
Loaded inside the sandbox: standard library only.
"""

import ctypes
import errno
import functools
import os
import re
import struct
from collections.abc import Callable

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name, number on x86_64, number on aarch64 ("-": that machine has no such call)
_CALLS = """
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62,
mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigreturn 15 139, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, access 21 -, pipe 22
-, select 23 -, sched_yield 24 124, mremap 25 216, msync 26 227, madvise 28 233, dup 32 23, dup2 33
-, pause 34 -, nanosleep 35 101, getitimer 36 102, alarm 37 -, setitimer 38 103, getpid 39 172,
recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, shutdown 48 210, getsockname 51 204, getpeername
52 205, setsockopt 54 208, getsockopt 55 209, exit 60 93, wait4 61 260, uname 63 160, ftruncate 77
46, getdents 78 -, getcwd 79 17, chdir 80 49, fchdir 81 50, umask 95 166, gettimeofday 96 169,
getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153, getuid 102 174, getgid 104 176,
geteuid 107 175, getegid 108 177, getppid 110 173, getpgrp 111 -, getgroups 115 158, getresuid 118
148, getresgid 120 150, getpgid 121 155, getsid 124 156, capget 125 90, rt_sigpending 127 136,
rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, statfs 137 43, fstatfs 138 44,
getpriority 140 141, sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146
125, sched_get_priority_min 147 126, sched_rr_get_interval 148 127, arch_prctl 158 -, gettid 186
178, time 201 -, futex 202 98, sched_getaffinity 204 123, epoll_create 213 -, getdents64 217 61,
set_tid_address 218 96, restart_syscall 219 128, fadvise64 221 223, timer_create 222 107,
timer_settime 223 110, timer_gettime 224 108, timer_getoverrun 225 109, timer_delete 226 111,
clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, exit_group 231 94, epoll_wait
232 -, epoll_ctl 233 21, waitid 247 95, openat 257 56, newfstatat 262 79, faccessat 269 48,
pselect6 270 72, ppoll 271 73, set_robust_list 273 99, epoll_pwait 281 22, timerfd_create 283 85,
eventfd 284 -, timerfd_settime 286 86, timerfd_gettime 287 87, signalfd4 289 74, eventfd2 290 19,
epoll_create1 291 20, dup3 292 24, pipe2 293 59, preadv 295 69, pwritev 296 70, getcpu 309 168,
getrandom 318 278, membarrier 324 283, preadv2 327 286, statx 332 291, rseq 334 293, close_range
436 436, faccessat2 439 439, epoll_pwait2 441 441, mkdir 83 -, mkdirat 258 34, unlink 87 -,
unlinkat 263 35, rmdir 84 -
"""
# Where Landlock allows it, which is the scratch folder: mkdir, unlink, rmdir.
# Allowed to the process that starts others, taken away from each of those by `SolverFilter`.
_STARTER_CALLS = """
clone 56 220, kill 62 129, tkill 200 130, tgkill 234 131, prlimit64 302 261, setrlimit 160 164,
setsid 112 157, prctl 157 167, landlock_restrict_self 446 446
"""
_CHECKED_CALLS = "clone3 435 435, fcntl 72 25, ioctl 16 29, sendto 44 206, socketpair 53 199"

_FCNTL = (0, 1, 2, 3, 1030, 1032)  # DUPFD, GETFD, SETFD, GETFL, DUPFD_CLOEXEC, GETPIPE_SZ
_FCNTL_SETFL, _O_ASYNC, _O_TRUNC = 4, 0x2000, 0x200
_IOCTL = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS, size, FIONREAD, FIONBIO, CLOEXEC
_PRCTL = (2, 3, 15, 16, 21, 23, 39, 0x53564D41)  # readers, PR_SET_NAME and PR_SET_VMA
_CLONE_THREAD = 0x10000
_FIRST_QUEUED_SIGNAL = 32
# Taken from solvers: what the kernel counts per user (descriptors in flight, pending signals).
_USED_UP_FOR_OTHERS = ("sendmsg", "timer_create")

_LOAD, _JUMP_EQUAL, _JUMP_NOT_LESS, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 6
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_X32_BIT = 0x40000000

Instruction = tuple[int, int, int, int]

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _refuse(number: int = errno.EPERM) -> Instruction:
    return (_RETURN, 0, 0, 0x00050000 | number)


_ACCEPT: Instruction = (_RETURN, 0, 0, _ALLOW)


def _numbers(machine: str) -> dict[str, int]:
    column = list(MACHINES).index(machine) + 1
    rows = [row.split() for row in f"{_CALLS},{_STARTER_CALLS},{_CHECKED_CALLS}".split(",")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _argument(index: int, high: bool = False) -> Instruction:
    """Load one 32-bit half of a system call's argument (little-endian machines only)."""
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * high)


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, which ends in a verdict, for this system call and skip it for others."""
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _one_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    tests = [(_JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(index), *tests, _refuse(), _ACCEPT]


def _null(index: int) -> list[Instruction]:
    low, high = _argument(index), _argument(index, high=True)
    return [low, (_JUMP_EQUAL, 0, 3, 0), high, (_JUMP_EQUAL, 0, 1, 0), _ACCEPT, _refuse()]


def _truncating_only_to_write(index: int) -> list[Instruction]:
    """Accept open flags without O_TRUNC, or with it and write access."""
    return [
        _argument(index),
        (_AND, 0, 0, _O_TRUNC | 3),
        (_JUMP_EQUAL, 2, 0, _O_TRUNC),
        (_JUMP_EQUAL, 1, 0, _O_TRUNC | 3),
        _ACCEPT,
        _refuse(),
    ]


def _without_bit(index: int, bit: int) -> list[Instruction]:
    return [_argument(index), (_JUMP_ANY_BIT, 0, 1, bit), _refuse(), _ACCEPT]


def starter_filter(machine: str, landlock_abi: int) -> bytes:
    """Return the filter of the process that starts solvers, as BPF instructions."""
    call = _numbers(machine)
    code: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, MACHINES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
    ]
    if machine == "x86_64":
        code += [(_JUMP_NOT_LESS, 0, 1, _X32_BIT), _refuse(errno.ENOSYS)]
    code += _when(call["clone3"], [_refuse(errno.ENOSYS)])
    set_flags = _without_bit(2, _O_ASYNC)
    other = _one_of(1, _FCNTL)
    code += _when(
        call["fcntl"],
        [_argument(1), (_JUMP_EQUAL, 0, len(set_flags), _FCNTL_SETFL), *set_flags, *other],
    )
    code += _when(call["ioctl"], _one_of(1, _IOCTL))
    code += _when(call["sendto"], _null(4))
    code += _when(
        call["socketpair"],
        [
            _argument(0),
            (_JUMP_EQUAL, 0, 4, 1),
            _argument(1),
            (_AND, 0, 0, 0xF),
            (_JUMP_EQUAL, 0, 1, 1),
            _ACCEPT,
            _refuse(),
        ],
    )
    if landlock_abi < 3:
        for name, flags in (("open", 1), ("openat", 2)):
            if name in call:
                code += _when(call[name], _truncating_only_to_write(flags))
    checked = {row.split()[0] for row in _CHECKED_CALLS.split(",")}
    for name, number in call.items():
        if name not in checked:
            code += _when(number, [_ACCEPT])
    return _packed([*code, _refuse()])


class SolverFilter:
    """The filter that a solver or judge adds for itself; built once, only the pid differs."""

    _PID = 0x5A5A5A5A

    def __init__(self, machine: str, judge: bool = False) -> None:
        """Build the filter for one machine type (a key of `MACHINES`); a `judge` sends pipes."""
        call = _numbers(machine)
        thread = [_argument(0), (_JUMP_ANY_BIT, 1, 0, _CLONE_THREAD), _refuse(), _ACCEPT]
        code: list[Instruction] = [(_LOAD, 0, 0, 0), *_when(call["clone"], thread)]
        for name, signal in (("kill", 1), ("tkill", 1), ("tgkill", 2)):
            own = [
                _argument(0),
                (_JUMP_EQUAL, 0, 2, self._PID),
                _argument(signal),
                (_JUMP_NOT_LESS, 0, 1, _FIRST_QUEUED_SIGNAL),
                _refuse(),
                _ACCEPT,
            ]
            code += _when(call[name], own)
        for name in () if judge else _USED_UP_FOR_OTHERS:
            code += _when(call[name], [_refuse()])
        code += _when(call["prlimit64"], _null(2))
        code += _when(call["prctl"], _one_of(0, _PRCTL))
        for name in ("setsid", "setrlimit", "landlock_restrict_self"):
            code += _when(call[name], [_refuse()])
        self._template = _packed([*code, _ACCEPT])
        self._buffer = ctypes.create_string_buffer(self._template, len(self._template))
        self._places = [
            found.start() for found in re.finditer(struct.pack("I", self._PID), self._template)
        ]
        self._install = _installing(self._buffer)

    def install(self) -> None:
        """Filter this process from now on. Raises OSError."""
        pid = os.getpid()
        for place in self._places:
            struct.pack_into("I", self._buffer, place, pid)
        self._install()


def _packed(code: list[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def install(instructions: bytes) -> None:
    """Add a filter to this process; no_new_privs must be set. Raises OSError."""
    _installing(ctypes.create_string_buffer(instructions, len(instructions)))()


def _installing(buffer: ctypes.Array[ctypes.c_char]) -> Callable[[], None]:
    """Prepare the installation of the filter that `buffer` holds when it is called."""
    program = _Program(len(buffer) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    call = functools.partial(_libc.prctl, 22, ctypes.c_ulong(2), ctypes.byref(program), 0, 0)

    def install() -> None:
        if call() != 0:
            raise OSError(ctypes.get_errno(), "seccomp filter refused")

    return install
