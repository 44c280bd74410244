"""A page in a real browser, for tests."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; apt install chromium")


def look(page: Path, folder: Path, script: str, *options: str) -> tuple[dict[str, Any], str]:
    """Show the page at the widths of a phone, a tablet and a desk; return what was seen there.

    `script` is HTML that leaves what it saw as JSON in an element `pre` of the id `seen`; the
    frames have the ids w375, w768 and w1280. The browser's log comes second.
    """
    text = html.escape(page.read_text(encoding="utf-8"))
    frames = "".join(
        f'<iframe id="w{width}" style="width:{width}px;height:900px" srcdoc="{text}"></iframe>'
        for width in (375, 768, 1280)
    )
    harness = folder / "harness.html"
    # Where a page does not name its encoding the browser guesses one, for its frames too.
    head = '<!DOCTYPE html><meta charset="utf-8">'
    harness.write_text(f"{head}<body>{frames}{script}</body>", encoding="utf-8")
    done = subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",  # containers have little of it, and tabs crash then
                "--enable-logging=stderr",
            ),
            *("--virtual-time-budget=20000", f"--user-data-dir={folder / 'profile'}", *options),
            *("--dump-dom", harness.as_uri()),
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=600,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-3000:]
    return json.loads(html.unescape(found[1])), done.stderr
