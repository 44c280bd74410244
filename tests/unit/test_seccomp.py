"""What the system call filters decide, on both machine types, by running them step by step."""

import errno
import re
import struct
from pathlib import Path

import pytest

from joules.grade.sandbox import seccomp

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ALLOWED = "allowed"
KILLED = "killed"
UNLISTED = {"x86_64": {"socket": 41, "execve": 59}, "aarch64": {"socket": 198, "execve": 221}}
PID = 0x5A5A5A5A


def decide(instructions: bytes, arch: int, number: int, *arguments: int) -> str | int:
    """Run a filter on one system call; return "allowed", "killed" or the error number."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    call = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("HBBI", instructions))
    accumulator, at = 0, 0
    while True:
        operation, jump_true, jump_false, value = code[at]
        at += 1
        if operation == 0x06:
            if value == 0x7FFF0000:
                return ALLOWED
            return KILLED if value == 0x80000000 else value & 0xFFFF
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", call, value)[0]
        elif operation == 0x54:
            accumulator &= value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += jump_true if holds else jump_false


@pytest.fixture(params=sorted(seccomp.MACHINES))
def machine(request) -> str:
    return request.param


@pytest.fixture
def starter(machine):
    instructions, call = seccomp.starter_filter(machine, 7), seccomp._numbers(machine)
    arch = seccomp.MACHINES[machine]
    return lambda name, *arguments: decide(instructions, arch, call[name], *arguments)


@pytest.fixture
def solver(machine):
    instructions, call = seccomp.SolverFilter(machine)._template, seccomp._numbers(machine)
    arch = seccomp.MACHINES[machine]
    return lambda name, *arguments: decide(instructions, arch, call[name], *arguments)


def test_every_call_that_is_not_listed_is_refused(machine):
    instructions = seccomp.starter_filter(machine, 7)
    arch, listed = seccomp.MACHINES[machine], set(seccomp._numbers(machine).values())
    for number in range(600):
        if number not in listed:
            assert decide(instructions, arch, number) == errno.EPERM
    assert not listed & set(UNLISTED[machine].values())


def test_another_machine_types_calls_kill_the_process(machine):
    i386 = 0x40000003
    assert decide(seccomp.starter_filter(machine, 7), i386, 3) == KILLED


def test_x32_calls_do_not_exist():
    instructions = seccomp.starter_filter("x86_64", 7)
    for number in (0, 520):
        found = decide(instructions, seccomp.MACHINES["x86_64"], 0x40000000 + number)
        assert found == errno.ENOSYS


def test_usual_calls_are_allowed(starter):
    for name in ("read", "write", "openat", "mmap", "futex", "clock_gettime", "clone", "kill"):
        assert starter(name) == ALLOWED
    assert starter("clone3") == errno.ENOSYS


def test_calls_are_judged_by_their_arguments(starter):
    nonblocking, o_async = 0x800, 0x2000
    assert starter("fcntl", 3, 4, nonblocking) == ALLOWED
    assert starter("fcntl", 3, 4, nonblocking | o_async) == errno.EPERM
    assert [starter("fcntl", 3, command) for command in (1, 2, 3)] == [ALLOWED] * 3
    assert [starter("fcntl", 3, command) for command in (8, 10, 1024)] == [errno.EPERM] * 3
    assert starter("ioctl", 0, 0x5401) == ALLOWED
    assert [starter("ioctl", 0, code) for code in (0x5412, 0x541C)] == [errno.EPERM] * 2
    assert starter("sendto", 3, 1, 1, 0, 0) == ALLOWED
    assert starter("sendto", 3, 1, 1, 0, 1 << 40) == errno.EPERM
    assert starter("socketpair", 1, 1 | 0x80000) == ALLOWED
    assert [starter("socketpair", *kind) for kind in ((1, 2), (2, 1))] == [errno.EPERM] * 2


def test_below_landlock_3_no_file_is_emptied_by_opening_it_without_the_right_to_write(machine):
    arch, number = seccomp.MACHINES[machine], seccomp._numbers(machine)["openat"]
    for abi, expected in ((2, errno.EPERM), (3, ALLOWED)):
        instructions = seccomp.starter_filter(machine, abi)
        for unwritten in (0x200, 0x203, 0x240):
            assert decide(instructions, arch, number, 0, 0, unwritten) == expected
        for checked_by_landlock in (0, 1, 2, 0x40, 0x201, 0x202, 0x241):
            assert decide(instructions, arch, number, 0, 0, checked_by_landlock) == ALLOWED


def test_a_solver_starts_threads_but_no_processes(solver):
    assert solver("clone", 0x10000 | 0x100) == ALLOWED
    assert [solver("clone", flags) for flags in (0, 17, 0x4000)] == [errno.EPERM] * 3


def test_a_solver_signals_only_itself(solver):
    for name in ("kill", "tkill", "tgkill"):
        assert solver(name, *[PID] * (1 + (name == "tgkill")), 9) == ALLOWED
        assert [solver(name, pid, 0) for pid in (1, 0, (1 << 32) - 1)] == [errno.EPERM] * 3


def test_a_solver_holds_nothing_that_the_kernel_counts_per_user(machine, solver):
    assert solver("sendmsg") == solver("timer_create") == errno.EPERM
    for name in ("kill", "tkill", "tgkill"):
        thread = [PID] * (1 + (name == "tgkill"))
        assert [solver(name, *thread, signal) for signal in (31, 32, 64)] == [
            ALLOWED,
            errno.EPERM,
            errno.EPERM,
        ]
    judge = seccomp.SolverFilter(machine, judge=True)._template
    arch, call = seccomp.MACHINES[machine], seccomp._numbers(machine)
    assert decide(judge, arch, call["sendmsg"]) == ALLOWED


def test_a_solver_reads_limits_but_sets_none(solver):
    assert solver("prlimit64", 0, 9, 0) == ALLOWED
    assert [solver("prlimit64", 0, 9, new) for new in (8, 1 << 33)] == [errno.EPERM] * 2
    assert solver("setrlimit", 9) == errno.EPERM


def test_a_solver_keeps_its_session_its_death_signal_and_its_filters(solver):
    assert solver("setsid") == solver("landlock_restrict_self") == errno.EPERM
    death_signal, dumpable, filters, name = 1, 4, 22, 15
    assert [solver("prctl", o) for o in (death_signal, dumpable, filters)] == [errno.EPERM] * 3
    assert solver("prctl", name) == ALLOWED


def test_numbers_are_those_of_the_kernels_headers(machine):
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[machine].read_text()
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    known = {name: int(number) for name, number in re.findall(pattern, text)}
    known["newfstatat"] = known.get("newfstatat", known.get("fstatat", -1))
    ours = seccomp._numbers(machine)
    assert {name: known.get(name) for name in ours} == ours
