"""Downloads from a real server on this machine that has faults to choose from."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from model_files import Place, sha256, write_gguf

from joules.core.catalogue import Source
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.inputs import model_files
from joules.machine import download

GATE_BYTES = 200_000


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The bytes of a whole GGUF file of about 260 kB."""
    return write_gguf(tmp_path / "made.gguf").read_bytes()


class Server:
    """A web server on this machine that serves one file and has faults to choose from."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"one"'
        self.cuts: list[int] = []  # bytes after which the next connections end early
        self.statuses: list[int] = []  # what the next connections answer instead
        self.ranges_work = True
        self.length_known = True
        self.wrong_range = False
        self.requests: list[dict[str, str]] = []
        self.gate: threading.Event | None = None  # held open after GATE_BYTES until it is set
        self.url = ""


@pytest.fixture
def server(content: bytes) -> Iterator[Server]:
    state = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append({key.lower(): value for key, value in self.headers.items()})
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            asked = self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, state.etag)
            start = 0
            if asked and state.ranges_work and same:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(state.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                said = start + 7 if state.wrong_range else start
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {said}-{len(state.content) - 1}/{len(state.content)}"
                )
            else:
                self.send_response(200)
            body = state.content[start:]
            if state.length_known:
                self.send_header("Content-Length", str(len(body)))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            if state.cuts:
                body = body[: state.cuts.pop(0)]
            if state.gate:
                self.wfile.write(body[:GATE_BYTES])
                self.wfile.flush()
                state.gate.wait(60)
                body = body[GATE_BYTES:]
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}/tiny.gguf"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        if state.gate:
            state.gate.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF_S", 0.0)
    monkeypatch.setattr(
        download, "CHUNK_BYTES", 1000
    )  # so that cuts at whole thousands lose nothing
    for name in ("NO_PROXY", "no_proxy"):  # the second is looked at first
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def source_of(server: Server, **changes: object) -> Source:
    known = {"url": server.url, "sha256": sha256(server.content), "bytes": len(server.content)}
    return Source(**known | changes)


def test_a_download_ends_under_its_name_with_nothing_else_beside_it(server, place):
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content
    assert place.files() == ["tiny.gguf"]
    assert any("100 %" in line for line in place.lines)


def test_a_cut_connection_is_resumed_with_a_range(server, place):
    server.cuts = [5000, 4000]
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content
    asked = [(each.get("range"), each.get("if-range")) for each in server.requests]
    assert asked == [(None, None), ("bytes=5000-", '"one"'), ("bytes=9000-", '"one"')]


def test_a_later_call_resumes_what_an_earlier_one_left(server, place):
    server.cuts = [3000] + [0] * (download.ATTEMPTS + 1)
    with pytest.raises(UserError, match=r"3000|3\.00 kB"):
        place.fetch(source_of(server))
    assert not place.target.exists()
    assert place.part.read_bytes() == server.content[:3000]
    server.cuts, server.requests = [], []
    place.fetch(source_of(server))
    assert [each.get("range") for each in server.requests] == ["bytes=3000-"]
    assert place.target.read_bytes() == server.content


def test_a_killed_download_leaves_only_its_part_and_is_resumed(server, place):
    server.gate = threading.Event()
    code = (
        "import sys; from pathlib import Path; import msgspec;"
        "from joules.core.catalogue import Source; from joules.inputs.model_files import fetch;"
        "target, lock = map(Path, sys.argv[2:]);"
        "source = msgspec.json.decode(sys.argv[1], type=Source);"
        "fetch('tiny', source, target, lock_file=lock)"
    )
    known = msgspec.json.encode(source_of(server)).decode()
    arguments = [known, str(place.target), str(place.lock_file)]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "workflow/scripts")},
    )
    while not (place.part.exists() and place.part.stat().st_size >= GATE_BYTES // 2):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.gate.set()
    server.gate = None
    assert place.files() == ["tiny.gguf.part", "tiny.gguf.part.json"]
    kept = place.part.stat().st_size
    place.fetch(source_of(server))
    assert server.requests[-1]["range"] == f"bytes={kept}-"
    assert place.target.read_bytes() == server.content
    assert place.files() == ["tiny.gguf"]


def test_attempts_are_bounded(server, place):
    server.cuts = [0] * 100
    with pytest.raises(UserError, match="run the same command again: it resumes"):
        place.fetch(source_of(server))
    assert len(server.requests) == download.ATTEMPTS


def test_attempts_that_bring_enough_are_not_counted(server, place, monkeypatch):
    monkeypatch.setattr(download, "PROGRESS_BYTES", 1000)
    server.cuts = [1000] * (download.ATTEMPTS + 3)
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content


def test_a_server_that_is_busy_is_asked_again(server, place):
    server.statuses = [503, 429, 500]
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content


def test_a_server_that_cannot_be_reached_is_named(place):
    source = Source(url="http://127.0.0.1:9/tiny.gguf", sha256="0" * 64)
    with pytest.raises(UserError, match="127.0.0.1.*Check the network"):
        place.fetch(source)


def test_a_server_without_ranges_is_started_over(server, place):
    server.ranges_work = False
    server.cuts = [5000]
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content
    assert server.requests[1]["range"] == "bytes=5000-"
    assert any("from its beginning" in line for line in place.lines)


def test_a_wrong_range_is_not_appended(server, place):
    server.cuts, server.wrong_range = [5000], True
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content
    assert server.requests[2].get("range") is None


def test_a_file_that_changes_between_two_parts_is_started_over(server, place, tmp_path):
    server.cuts = [5000] + [0] * (download.ATTEMPTS + 1)
    source = Source(url=server.url)
    with pytest.raises(UserError):
        place.fetch(source, trust=True)
    server.content = write_gguf(tmp_path / "other.gguf", template="other").read_bytes()
    server.etag, server.cuts = '"two"', []
    place.fetch(source, trust=True)
    assert place.target.read_bytes() == server.content


def test_a_part_is_dropped_when_nothing_tells_whether_the_file_is_the_same(server, place):
    server.etag = None
    server.cuts = [5000]
    place.fetch(Source(url=server.url), trust=True)
    assert [each.get("range") for each in server.requests] == [None, None]
    assert place.target.read_bytes() == server.content


def test_a_part_of_another_address_is_dropped(server, place):
    place.part.parent.mkdir()
    place.part.write_bytes(b"GGUF of another model")
    download.notes(place.part).write_text('{"url": "http://elsewhere/", "etag": "\\"one\\""}')
    place.fetch(source_of(server))
    assert "range" not in server.requests[0]
    assert place.target.read_bytes() == server.content


def test_a_part_that_was_complete_is_only_checked(server, place):
    place.part.parent.mkdir()
    place.part.write_bytes(server.content)
    notes = {"url": server.url, "etag": server.etag}
    download.notes(place.part).write_text(json.dumps(notes))
    place.fetch(source_of(server))
    assert len(server.requests) == 1
    assert place.target.read_bytes() == server.content


def test_a_part_longer_than_the_file_is_dropped(server, place):
    place.part.parent.mkdir()
    place.part.write_bytes(server.content + b"more")
    notes = {"url": server.url, "etag": server.etag}
    download.notes(place.part).write_text(json.dumps(notes))
    place.fetch(source_of(server))
    assert place.target.read_bytes() == server.content


def test_wrong_bytes_are_refused_and_not_kept(server, place):
    source = source_of(server)
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    with pytest.raises(UserError) as caught:
        place.fetch(source)
    message = str(caught.value)
    for part in (source.sha256, sha256(server.content), server.url, "200", "config/models.yaml"):
        assert part in message
    assert str(len(server.content)) in message
    assert place.files() == []


def test_wrong_bytes_do_not_replace_a_file_that_is_there(server, place):
    place.fetch(source_of(server))
    before = place.target.read_bytes()
    with pytest.raises(UserError, match="wrong bytes"):
        place.fetch(source_of(server, sha256="1" * 64))
    assert place.target.read_bytes() == before


def test_a_wrong_size_is_refused_before_the_transfer(server, place):
    source = source_of(server, bytes=len(server.content) + 1)
    with pytest.raises(UserError, match=f"{len(server.content)} bytes long; expected"):
        place.fetch(source)
    assert place.files() == []


@pytest.mark.parametrize("missing", [-1, 1])
def test_a_wrong_size_is_refused_when_the_server_does_not_say_it(server, place, missing):
    server.length_known = False
    with pytest.raises(UserError):
        place.fetch(source_of(server, bytes=len(server.content) + missing))
    assert not place.target.exists()


def test_a_cut_is_noticed_by_the_known_size_when_the_server_does_not_say_it(server, place):
    server.length_known, server.cuts = False, [5000]
    place.fetch(source_of(server))
    assert [each.get("range") for each in server.requests] == [None, "bytes=5000-"]
    assert place.target.read_bytes() == server.content


def test_a_server_that_does_not_say_the_size_is_read_to_its_end(server, place):
    server.length_known = False
    place.fetch(Source(url=server.url, sha256=sha256(server.content)))
    assert place.target.read_bytes() == server.content


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "revision"), (403, "licence"), (401, "licence"), (410, "Expected")]
)
def test_a_refusal_is_explained_and_not_repeated(server, place, status, advice):
    server.statuses = [status] * 10
    with pytest.raises(UserError, match=f"HTTP status {status}.*{advice}"):
        place.fetch(source_of(server))
    assert len(server.requests) == 1
    assert place.files() == []


def test_a_page_instead_of_a_model_is_refused(server, place):
    server.content = b"<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(UserError, match="begins with b'GGUF', got b'<!DOCTYPE"):
        place.fetch(Source(url=server.url), trust=True)
    assert place.files() == []


def test_too_small_a_disk_is_refused_before_the_transfer(server, place, monkeypatch):
    usage = SimpleNamespace(free=400_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"500\.00 MB.*400\.00 MB are free") as caught:
        place.fetch(source_of(server))
    assert "Free at least" in str(caught.value)
    assert not place.part.exists()


def test_a_disk_that_is_full_after_all_keeps_what_came(server, place, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.cuts = [5000]
    monkeypatch.setattr(download, "_progress", lambda *_: full)
    with pytest.raises(UserError, match="disk is full.*Free some space"):
        place.fetch(source_of(server))
    assert place.part.exists()
    assert not place.target.exists()


def test_an_unknown_sha256_is_refused_before_anything_is_asked(server, place):
    with pytest.raises(UserError, match="trust_on_first_use"):
        place.fetch(Source(url=server.url))
    assert server.requests == []


def test_what_is_trusted_on_first_use_is_pinned(server, place, tmp_path):
    place.lock_file.parent.mkdir()
    place.lock_file.write_text('{"another": {"sha256": "a", "bytes": 1, "url": "b"}}')
    place.fetch(Source(url=server.url), trust=True)
    locked = json.loads(place.lock_file.read_text())
    assert locked["tiny"] == msgspec.to_builtins(source_of(server))
    assert "another" in locked
    place.target.unlink()
    place.fetch(Source(url=server.url))  # known now, so it need not be trusted again
    assert place.target.read_bytes() == server.content


def test_files_that_are_trusted_side_by_side_are_all_pinned(tmp_path):
    """Processes of their own, as the workflow's jobs are."""
    lock_file = tmp_path / "models.lock.json"
    code = (
        "import sys; from pathlib import Path; from joules.inputs import model_files\n"
        "for number in range(20):\n"
        "    name = f'{sys.argv[2]}-{number}'\n"
        "    model_files._lock(name, 'address', '0' * 64, number, Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "workflow/scripts")}
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(lock_file), name], env=environment)
        for name in "ab"
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert len(model_files.locked_files(lock_file)) == 40


def test_a_lock_file_that_is_broken_is_named(server, place):
    place.lock_file.parent.mkdir()
    place.lock_file.write_text('{"tiny": {"sha256": 1}}')
    with pytest.raises(UserError, match=r"models\.lock\.json does not hold.*delete it"):
        place.fetch(Source(url=server.url), trust=True)


def test_a_pinned_file_that_changed_is_refused_even_when_trusted(server, place, tmp_path):
    place.fetch(Source(url=server.url), trust=True)
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    with pytest.raises(UserError, match="models.lock.json"):
        place.fetch(Source(url=server.url), trust=True)


def test_a_pin_of_another_address_does_not_count(server, place):
    place.fetch(Source(url=server.url), trust=True)
    with pytest.raises(UserError, match="is not known"):
        place.fetch(Source(url=server.url + "?other"))


def test_a_link_left_by_a_kill_never_changes_the_file_it_points_to(server, place, tmp_path):
    source = write_gguf(tmp_path / "mine.gguf", template="mine")
    before = source.read_bytes()
    place.part.parent.mkdir()
    os.link(source, place.part)
    place.fetch(source_of(server))
    assert source.read_bytes() == before
    assert place.target.read_bytes() == server.content

    other = write_gguf(tmp_path / "other.gguf")
    os.link(source, place.part)
    place.fetch(Source(path=str(other), sha256=sha256(other.read_bytes())))
    assert source.read_bytes() == before
