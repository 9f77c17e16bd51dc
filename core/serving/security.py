"""Access control: the token, the page's origin, and the requested host."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from accomp.core.errors import UserError

TOKEN = "ACCOMP_TOKEN"
SHORTEST = 16

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), midi=(self), screen-wake-lock=(self), speaker-selection=(self)",
}
"""Headers of every response."""


@frozen
class AccessControl:
    """Access rules. Attributes: token: that clients must present. origins: of other pages that may connect:
    https://host[:port].
    """

    token: str = field(repr=False)
    origins: tuple[str, ...] = ()

    def accepts_token(self, token: str | None) -> bool:
        """Compare a client's token in constant time."""
        return hmac.compare_digest((token or "").encode(), self.token.encode())

    def accepts_host(self, host: str | None) -> bool:
        """Whether a Host header names this server: an IP address, localhost, or the host of an allowed origin.

        Any other name may have been pointed here to bypass the browser's rules (DNS rebinding).
        """
        name = _name(host)
        if name == "localhost" or name in {_name(urlsplit(one).netloc) for one in self.origins}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def accepts_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this Origin may connect to a server requested as `host`; clients other than pages have
        none.
        """
        if origin is None:
            return True
        return origin in self.origins or (origin != "null" and urlsplit(origin).netloc == host)


def bearer(header: str | None) -> str | None:
    """Token of an Authorization header."""
    kind, _, token = (header or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def token_from(file: Path | None) -> str:
    """Token from a file, the environment (ACCOMP_TOKEN), or a new one. Raises UserError for one that is easily
    guessed.
    """
    if file is not None:
        try:
            found, where = file.read_text(encoding="utf-8").strip(), f"--token-file {file}"
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the token ({error}) @ --token-file {file}") from None
    else:
        found, where = os.environ.get(TOKEN, "").strip(), TOKEN
        if not found:
            return secrets.token_urlsafe(32)
    if len(found) < SHORTEST or not found.isascii() or any(c.isspace() for c in found):
        raise UserError(f"a token has {SHORTEST} or more ASCII characters and no space in it @ {where}")
    return found


def check_origins(given: Iterable[str]) -> tuple[str, ...]:
    """Check origins. Raises UserError for a text that is no origin."""
    for origin in given:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise UserError(f"expected an origin such as https://jam.example.org @ --allow-origin {origin}")
    return tuple(given)


def session_id() -> str:
    """Make the public id of a session: UTC time and three random bytes."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def _name(host: str | None) -> str:
    try:
        return (urlsplit(f"//{host or ''}").hostname or "").lower()
    except ValueError:
        return ""
