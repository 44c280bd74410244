"""What every rule script shares: lines to the terminal and the log, and plain errors."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from joules.core.errors import UserError


@contextlib.contextmanager
def reporting(log_path: str | Path | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes one line to standard error and to the log file.

    A UserError inside the block becomes the line `error: ...` and exit status 1, without a
    traceback. Any other error leaves its traceback in the log and is raised again.
    """
    with contextlib.ExitStack() as stack:
        log = None
        if log_path is not None:
            Path(log_path).parent.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(open(log_path, "w", encoding="utf-8"))

        def report(line: str) -> None:
            print(line, file=sys.stderr, flush=True)
            if log is not None:
                print(line, file=log, flush=True)

        try:
            yield report
        except UserError as error:
            report(f"error: {error}")
            raise SystemExit(1) from None
        except Exception:
            if log is not None:
                traceback.print_exc(file=log)
            raise
