"""The measuring lock between real processes: places, holders, file systems without locks."""

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import textwrap

import pytest

from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.machine import identity, lock

HOLDER = textwrap.dedent(
    """
    import contextlib, errno, fcntl, sys, time
    from pathlib import Path
    from joules.machine import lock

    seconds, refusal, *places = sys.argv[1:]
    if refusal != "none":
        def cannot(handle, operation):
            raise OSError(getattr(errno, refusal), "as a network disk would")
        fcntl.flock = cannot
    places = [Path(place) for place in places] or lock.PLACES
    with lock.measuring(lambda line: print(line, flush=True), places):
        print("in", time.monotonic(), flush=True)
        sys.stdin.read() if seconds == "told" else time.sleep(float(seconds))
        print("out", time.monotonic(), flush=True)
    """
)
REFUSALS = ("EBADF", "ENOLCK", "EOPNOTSUPP", "ENOSYS")


def holder(*places, seconds=0.2, refusal="none", **variables):
    """Start a process that holds the lock for some seconds; "told": until `said_by` ends it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds), refusal, *map(str, places)],
        stdin=subprocess.PIPE if seconds == "told" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)} | variables,
    )


def said_by(workers, already=()):
    """Return what each said, and when each was in and out, in order of time.

    `already`: what was read of each before, where it was.
    """
    lines = [worker.communicate(timeout=120)[0].splitlines() for worker in workers]
    lines = [
        [*before, *said] for before, said in zip(already or [()] * len(lines), lines, strict=True)
    ]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    spans = sorted(
        [float(line.split()[1]) for line in said if line.startswith(("in ", "out "))]
        for said in lines
    )
    return [line for said in lines for line in said], spans


def in_turns(spans):
    return all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))


def until(worker, beginning):
    """Read what a holder says up to a line that begins so; return what it said."""
    assert worker.stdout is not None
    said = []
    for line in worker.stdout:
        said.append(line.rstrip("\n"))
        if line.startswith(beginning):
            return said
    raise AssertionError(f"it never said {beginning!r}: {said}")


def until_in(worker):
    """Read what a holder says until it holds the lock; return what it said."""
    return until(worker, "in ")


@pytest.mark.parametrize("refusal", ["none", *REFUSALS])
def test_processes_take_turns_whether_or_not_the_file_system_can_lock(tmp_path, refusal):
    first = holder(tmp_path / "lock", seconds="told", refusal=refusal)
    said = [until_in(first)]
    others = [holder(tmp_path / "lock", refusal=refusal) for _ in range(2)]
    said += [until(each, "waiting: another measurement") for each in others]
    lines, spans = said_by([first, *others], said)
    assert len(spans) == 3 and in_turns(spans)
    stated = [line for line in lines if "cannot be locked on its file system" in line]
    assert len(stated) == (0 if refusal == "none" else 3)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"lock"}


def test_studies_with_different_tmpdir_take_turns_at_the_real_places(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first = holder(seconds="told", TMPDIR=str(folders[0]))
    said = [until_in(first)]
    second = holder(TMPDIR=str(folders[1]))
    said.append(until(second, "waiting: another measurement"))
    _, spans = said_by([first, second], said)
    assert len(spans) == 2 and in_turns(spans)
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_whoever_shares_one_of_the_places_waits(tmp_path):
    """A container may lack the first place; a job may have a /tmp of its own."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    with lock.measuring(lambda line: None, [own, shared]):
        waiting = holder(tmp_path / "missing/folder", shared, seconds=0)
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith("waiting: another measurement")
    said_by([waiting])


def test_no_place_at_all_is_an_error_that_names_them(tmp_path):
    places = [tmp_path / "a/lock", tmp_path / "b/lock"]
    wanted = r"had nowhere: .*a/lock .*b/lock .*writable for all"
    with (
        pytest.raises(UserError, match=wanted),
        lock.measuring(lambda line: None, places, tmp_path / "c/lock"),
    ):
        pass


def test_the_user_s_own_folder_is_the_last_resort_which_is_said_and_named(tmp_path):
    nowhere, own, said = tmp_path / "a/lock", tmp_path / "own", list[str]()
    with lock.measuring(said.append, [nowhere], own) as held:
        assert held == [own]
        waiting = holder(own, seconds=0)
        assert waiting.stdout is not None and waiting.stdout.readline().startswith("waiting")
    said_by([waiting])
    assert len(said) == 1 and "measurements of other users do not wait for it" in said[0]
    with lock.measuring(said.append, [nowhere, tmp_path / "b"], own) as held:
        assert held == [tmp_path / "b"]
    assert len(said) == 1


@pytest.mark.parametrize("refusal", ["none", "ENOLCK"])
def test_the_lock_of_a_killed_process_is_free_for_the_next(tmp_path, refusal):
    killed = holder(tmp_path / "lock", seconds=600, refusal=refusal)
    until_in(killed)
    killed.kill()
    killed.wait()
    lines, spans = said_by([holder(tmp_path / "lock", seconds=0, refusal=refusal)])
    assert len(spans) == 1
    assert not any(line.startswith("waiting") for line in lines)


def test_a_claim_of_an_earlier_process_with_the_same_id_is_stale(tmp_path, monkeypatch):
    def cannot(handle, operation):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", cannot)
    place = tmp_path / "lock"
    claim = tmp_path / f"lock.{identity.boot_id()}"
    ticks = identity.start_ticks(os.getppid())
    claim.write_text(f"{os.getppid()} {ticks - 1} {identity.pid_namespace() or '-'}")
    said = []
    with lock.measuring(said.append, [place]):
        assert claim.read_text().startswith(f"{os.getpid()} ")
    assert len(said) == 1 and "is used instead" in said[0]
    assert not claim.exists()


def test_a_lock_file_that_was_cleaned_away_while_waiting_is_made_anew(tmp_path):
    place = tmp_path / "lock"
    with lock.measuring(lambda line: None, [place]):
        waiting = holder(place, seconds=600)
        assert waiting.stdout is not None and waiting.stdout.readline().startswith("waiting")
        place.unlink()
    until_in(waiting)
    assert place.exists()
    second = holder(place, seconds=0)
    assert second.stdout is not None and second.stdout.readline().startswith("waiting")
    waiting.kill()
    waiting.wait()
    said_by([second])


def test_a_file_of_another_user_is_locked_all_the_same(tmp_path):
    """As in /tmp, where the kernel refuses to open another user's file for writing."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    place = folder / "lock"
    place.touch(mode=0o600)
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    with lock.measuring(lambda line: None, [place]):
        waiting = holder(place, seconds=0)
        assert waiting.stdout is not None and waiting.stdout.readline().startswith("waiting")
    said_by([waiting])


def test_an_ordinary_user_waits_for_root_at_the_real_places():
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become another user")
    script = (
        "import fcntl, os, sys\n"
        "for place in sys.argv[1:]:\n"
        "    try: handle = os.open(place, os.O_RDWR)\n"
        "    except PermissionError: handle = os.open(place, os.O_RDONLY)\n"
        "    except FileNotFoundError: continue\n"
        "    try: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\n"
        "    except BlockingIOError: print('held')\n"
    )
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    command += ["/usr/bin/env", "python3", "-c", script, *map(str, lock.PLACES)]
    with lock.measuring(lambda line: None):
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    if done.returncode != 0:
        pytest.skip(f"another user cannot run Python here: {done.stderr[-200:]}")
    assert set(done.stdout.split()) == {"held"}


def test_the_lock_does_not_pass_to_a_child(tmp_path):
    place = tmp_path / "lock"
    with lock.measuring(lambda line: None, [place]):
        child = subprocess.Popen(["sleep", "600"])
    try:
        lines, _ = said_by([holder(place, seconds=0)])
    finally:
        child.kill()
        child.wait()
    assert not any(line.startswith("waiting") for line in lines)
