"""Validate an RO-Crate with roc-validator and no network; run by the validator's own Python.

    python validate_crate.py CRATE PROFILE SEVERITY

Prints a JSON list of the issues. What the validator asks the network for is answered from the
copies in tests/data/contexts; anything else is an error, and so is any connection.
"""

import json
import os
import socket
import sys
from pathlib import Path

import requests
from requests.adapters import BaseAdapter

CONTEXTS = Path(__file__).parent / "data/contexts"
COPIES = {
    "https://w3id.org/ro/crate/1.1/context": "ro-crate-1.1.json",
    "https://w3id.org/ro/terms/workflow-run/context": "workflow-run.json",
}


class FromCopies(BaseAdapter):
    """Answers requests from the copies; there is no other source."""

    def send(self, request, **options):
        """Return the copy of what was asked for. Raises ConnectionError where there is none."""
        if request.url not in COPIES:
            raise requests.ConnectionError(f"no copy of {request.url}")
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 200, request.url, request
        answer.headers["Content-Type"] = "application/ld+json"
        answer._content = (CONTEXTS / COPIES[request.url]).read_bytes()
        return answer

    def close(self):
        """Do nothing: nothing was opened."""


def refuse(*arguments):
    """Stand in for a connection to anywhere."""
    raise OSError("a connection to the network was asked for")


def main() -> None:
    """Print the issues of the crate."""
    os.environ["ROCRATE_VALIDATOR_AUTO_WARM"] = "0"
    requests.Session.get_adapter = lambda session, url: FromCopies()
    socket.socket.connect = refuse
    from rocrate_validator import models, services  # read after the network is shut

    crate, profile, severity = sys.argv[1:]
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier=profile,
        requirement_severity=models.Severity[severity],
        abort_on_first=False,
        no_cache=True,  # else it would keep what it reads in the user's folder for caches
    )
    result = services.validate(settings)
    issues = [
        {"check": issue.check.identifier, "severity": issue.severity.name, "message": issue.message}
        for issue in result.get_issues()
    ]
    json.dump(issues, sys.stdout)


if __name__ == "__main__":
    main()
