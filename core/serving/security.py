"""Who may come in: the token, the address that a page came from, and the host that it was asked for."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
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
"""Of every answer."""


@frozen
class Door:
    """Attributes: token: what a client has to know. origins: of pages elsewhere that may connect: https://host[:port]."""

    token: str = field(repr=False)
    origins: tuple[str, ...] = ()

    def knows(self, token: str | None) -> bool:
        """Whether a client's token is the right one; how long it takes does not tell how much of it is."""
        return hmac.compare_digest((token or "").encode(), self.token.encode())

    def serves(self, host: str | None) -> bool:
        """Whether a Host header is this server: an address in numbers, localhost, or the host of an allowed origin.

        Any other name may be one that somebody has pointed here to get past the browser's rules (DNS rebinding).
        """
        name = _name(host)
        if name == "localhost" or name in {_name(urlsplit(one).netloc) for one in self.origins}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def admits(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this Origin may connect to a server asked for as `host`; what is no page has none."""
        if origin is None:
            return True
        return origin in self.origins or (origin != "null" and urlsplit(origin).netloc == host)


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header."""
    kind, _, token = (header or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def token_from(file: Path | None) -> str:
    """The token in a file, in the environment (ACCOMP_TOKEN), or a new one. Raises UserError for one easily guessed."""
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


def checked_origins(given: Iterable[str]) -> tuple[str, ...]:
    """Raises UserError for what is no origin."""
    for origin in given:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise UserError(f"expected an origin such as https://jam.example.org @ --allow-origin {origin}")
    return tuple(given)


def _name(host: str | None) -> str:
    try:
        return (urlsplit(f"//{host or ''}").hostname or "").lower()
    except ValueError:
        return ""
