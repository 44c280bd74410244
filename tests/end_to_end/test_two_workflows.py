"""Two workflows started together on one machine never measure, or grade beside a run, at once."""

import itertools
import json

from small_study import built_copy


def test_two_studies_started_together_take_turns_whatever_tmpdir_says(tmp_path, monkeypatch):
    trees = [built_copy(tmp_path / name) for name in ("first", "second")]
    started = []
    for tree in trees:
        tree.configure(models=["parrot-1m"], kinds=["task"], blocks=2, problems=3)
        scratch = tree.folder.with_name(f"scratch-{tree.folder.name}")
        scratch.mkdir()
        monkeypatch.setenv("TMPDIR", str(scratch))
        started.append(tree.started("records"))
    said = []
    for process in started:
        output, _ = process.communicate(timeout=1800)
        assert process.returncode == 0, output
        said.append(output)
    assert any("waiting: another measurement" in output for output in said)
    runs = []
    for tree in trees:
        paths = list((tree.folder / "results/small/records").rglob("[0-9].json"))
        assert len(paths) == 4
        for path in paths:
            windows = json.loads(path.read_text())["windows"]
            last = windows[-1]
            end_s = last["start_monotonic_s"] + last["duration_s"]
            runs.append((windows[0]["start_monotonic_s"], end_s))
    for (_, end_s), (start_s, _) in itertools.pairwise(sorted(runs)):
        assert end_s <= start_s
