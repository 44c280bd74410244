"""The commit that a record states: that of this checkout, or none."""

import subprocess

import pytest

from joules.machine.machine_state import _commit

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit."""
    folder = tmp_path / "outer"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("1")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_a_checkout_states_its_commit_and_whether_it_was_changed(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert (_commit(repository).sha, _commit(repository).dirty) == (head, False)
    (repository / "file").write_text("2")
    assert _commit(repository).dirty is True


def test_an_archive_unpacked_inside_another_repository_states_none(repository):
    inside = repository / "unpacked"
    inside.mkdir()
    assert (_commit(inside).sha, _commit(inside).dirty) == (None, None)


def test_an_archive_outside_of_any_repository_states_none(tmp_path):
    assert (_commit(tmp_path).sha, _commit(tmp_path).dirty) == (None, None)


def test_the_users_git_variables_and_folder_do_not_choose_the_repository(
    repository, tmp_path, monkeypatch
):
    plain = tmp_path / "plain"
    plain.mkdir()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(plain))
    monkeypatch.chdir(repository)
    assert _commit(plain).sha is None


def test_a_checkout_reached_by_a_link_states_its_commit(repository, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(repository)
    assert _commit(link).sha == git(repository, "rev-parse", "HEAD")
