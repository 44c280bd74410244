"""Digest authentication of HTTP: RFC 7616, with SHA-256 and qop `auth`, and MD5 as RFC 2617 had."""

import hashlib
import re
import secrets
from collections.abc import Callable

ALGORITHMS = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
PARAMETER = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))')


def parameters_of(challenge: str) -> dict[str, str]:
    """Return the parameters of a `WWW-Authenticate: Digest` header, their names in small letters.

    Empty where it asks for something else.
    """
    scheme, _, rest = challenge.strip().partition(" ")
    if scheme.lower() != "digest":
        return {}
    return {name.lower(): quoted or bare for name, quoted, bare in PARAMETER.findall(rest)}


class Digest:
    """The answers to one challenge: each request gets a count of its own, as RFC 7616 3.4 asks.

    Raises KeyError or ValueError for a challenge that cannot be answered.
    """

    def __init__(
        self,
        challenge: str,
        user: str,
        password: str,
        make_cnonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._given = parameters_of(challenge)
        self._algorithm = self._given.get("algorithm", "MD5").upper()
        if self._algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm {self._algorithm}")
        offered = [each.strip() for each in self._given.get("qop", "").split(",")]
        if "auth" not in offered:
            raise ValueError(f"qop {self._given.get('qop', 'missing')}")
        self._user, self._make_cnonce = user, make_cnonce
        self._secret = self._hash(f"{user}:{self._given['realm']}:{password}")
        self._nonce, self._count = self._given["nonce"], 0

    def _hash(self, text: str) -> str:
        return ALGORITHMS[self._algorithm](text.encode()).hexdigest()

    def header(self, method: str, path: str) -> str:
        """Return the value of `Authorization` for a request of `path`, its query included."""
        self._count += 1
        count, cnonce = f"{self._count:08x}", self._make_cnonce()
        asked = self._hash(f"{method}:{path}")
        response = self._hash(f"{self._secret}:{self._nonce}:{count}:{cnonce}:auth:{asked}")
        opaque = f', opaque="{self._given["opaque"]}"' if "opaque" in self._given else ""
        return (
            f'Digest username="{self._user}", realm="{self._given["realm"]}", '
            f'nonce="{self._nonce}", uri="{path}", algorithm={self._algorithm}, '
            f'response="{response}", qop=auth, nc={count}, cnonce="{cnonce}"{opaque}'
        )
