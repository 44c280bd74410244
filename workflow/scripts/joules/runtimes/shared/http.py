"""The client of runtimes that answer over HTTP: a server of their own, or one that runs already.

A module in `joules/runtimes` derives its `Runtime` from `HttpServer`.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joules.core.errors import UserError
from joules.core.inference import Facts, Options
from joules.machine import processes
from joules.runtimes import Request, check_options
from joules.runtimes.shared.basis import RuntimeBasis

START_S = 600.0  # a large file from a slow disk
REFUSALS = (400, 401, 403, 405, 422)  # the server is up and will not change its mind
THERE_S = 2.0  # a server that runs already is there at once
OBITUARY_S = 10.0  # until a server that broke off an answer has ended


class HttpServer(RuntimeBasis):
    """A runtime behind HTTP; see `joules.runtimes.Runtime`."""

    def __init__(self, options: Options, work_folder: Path) -> None:
        check_options(self.name(), options, self.OPTIONS)
        self._options = dict(options)
        self._provided: Facts = dict(options["provided"])
        self._work = work_folder
        self._log = work_folder / f"{self.name()}.log"
        self._server: subprocess.Popen[str] | None = None
        self._client: Any = None
        self._model = "no model"

    def stop(self) -> None:
        """End the server, if it is this runtime's own; its log stays."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._server is not None:
            processes.end(self._server)
            self._server = None

    def _start_server(self, command: Sequence[str], port: int) -> None:
        """Start the server, which listens on a port of this machine, and wait until it is up."""
        self._server = processes.start(
            command,
            self._log,
            processes.minimal_environment() | {"HOME": str(self._work.absolute())},
            supervised=True,
        )
        self._connect(f"http://127.0.0.1:{port}")

    def _connect(self, url: str) -> None:
        """Wait until the server at `url` is up. Raises UserError when it is not."""
        import httpx

        self._client = httpx.Client(base_url=url, trust_env=False, timeout=None)
        if not processes.wait_until(self._is_up, START_S if self._server else THERE_S):
            raise UserError(
                f"{self.LABEL} at {url} is not ready. Expected a server that has loaded "
                f"{self._model}. Its last words: {processes.tail(self._log)}."
            )

    def _is_up(self) -> bool:
        import httpx

        self._check_server()
        try:
            status = self._ask_if_up()
        except httpx.HTTPError:
            return False
        if status in REFUSALS:
            raise UserError(
                f"{self.LABEL} refuses a short prompt with status {status}. Expected an answer. "
                f"Its last words: {processes.tail(self._log)}. Its log is {self._log}."
            )
        return status == httpx.codes.OK

    def _ask_if_up(self) -> int:
        """Return the status of an answer that is 200 once the weights are loaded."""
        return int(self._client.get("/health").status_code)

    def _post(self, path: str, request: Request, refusal: str) -> Any:
        """Send one request and return the answer; None for an error in the words `refusal`.

        Raises UserError for any other answer but a good one.
        """
        import httpx

        said = ""
        try:
            answer = self._client.post(path, json=request)
            said = answer.text
            if answer.is_server_error and refusal in said:
                return None
            return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            if isinstance(error, httpx.TransportError):
                processes.wait_until(self._has_ended, OBITUARY_S)
            self._check_server()
            raise UserError(
                f"{self.LABEL} answered {self._model} with an error: {error}. {said[:300]} "
                f"Expected an answer. Its last words: {processes.tail(self._log)}. "
                f"Its log is {self._log}."
            ) from error

    def holder(self) -> int | None:
        """Return the server's process; None where it is not this runtime's own."""
        return None if self._server is None else self._server.pid

    def _has_ended(self) -> bool:
        return self._server is not None and self._server.poll() is not None

    def _check_server(self) -> None:
        """Raise UserError when the server has ended."""
        if self._server is not None and self._has_ended():
            how = processes.ending(self._server.returncode)
            raise processes.died(self.LABEL, self._model, how, self._log)
