"""A connection that drops while a study is measured: as Ctrl-C, on a real terminal."""

import contextlib
import os
import pty
import signal
import time

import pytest
from running_study import left_after
from small_study import built_copy

PATIENCE_S = 120.0


@pytest.mark.parametrize("how", ["hangup", "ctrl-c"])
def test_a_lost_terminal_leaves_nothing_behind_and_the_same_command_goes_on(tmp_path, how):
    tree = built_copy(tmp_path / "tree")
    tree.configure(models=["parrot-1m"], kinds=["task"], blocks=1, problems=3)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = tree.command("records")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tree.folder)
        os.environ["TMPDIR"] = str(scratch)
        os.execv(command[0], command)
    said = b""
    while b"run 1 of" not in said:
        said += os.read(terminal, 65536)
    # The measuring script has its folder when it has looked at the hardware.
    until = time.monotonic() + PATIENCE_S
    while len(list(scratch.iterdir())) < 2:
        assert time.monotonic() < until, "the measuring script has no folder"
        time.sleep(0.05)
    until = time.monotonic() + PATIENCE_S
    if how == "hangup":
        os.close(terminal)  # the kernel sends SIGHUP, and every write to the terminal fails
    else:
        os.write(terminal, b"\x03")
    status = None
    while status is None and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended == 0:
            status = None
            if how == "ctrl-c":
                os.set_blocking(terminal, False)
                with contextlib.suppress(OSError):
                    os.read(terminal, 65536)
            time.sleep(0.05)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert status is not None, "the workflow did not end"
    if how == "ctrl-c":
        os.close(terminal)
    assert left_after(PATIENCE_S, tree.folder) == []
    assert list(scratch.iterdir()) == []
    tree.snakemake("records")  # without --unlock
    records = (tree.folder / "results/small/records").rglob("[0-9].json")
    assert len(list(records)) == 2
