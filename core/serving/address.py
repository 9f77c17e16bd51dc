"""Listening address of a server: checked and bound before heavy imports, so that early connections are queued."""

from __future__ import annotations

import socket
from pathlib import Path

from attrs import frozen

from accomp.core.errors import UserError

SENT_AHEAD = 128 * 1024
"""Send buffer in bytes of one client, in the kernel and in the event loop."""


@frozen
class Address:
    """Listening address of a server. Attributes: cert, key: of TLS. behind_proxy: a proxy speaks TLS for it."""

    host: str = "127.0.0.1"
    port: int = 8765
    cert: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False

    @property
    def local(self) -> bool:
        return self.host in ("127.0.0.1", "localhost", "::1")

    def url(self, port: int, token: str) -> str:
        """URL of the page."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.cert else ''}://{name}:{port}/#token={token}"

    def check(self) -> None:
        """Raise UserError, with the cures, where browsers would refuse the microphone or a certificate is missing."""
        if (self.cert is None) != (self.key is None):
            raise UserError("--tls-cert and --tls-key go together")
        for path in (self.cert, self.key):
            if path is not None and not path.is_file():
                raise UserError(f"no such file @ {path}")
        if not (self.local or self.cert or self.behind_proxy):
            raise UserError(
                f"over plain http browsers give no microphone to a page at {self.host}. Leave --host out and tunnel to "
                f"it (ssh -L {self.port}:127.0.0.1:{self.port} THIS_MACHINE), or give it a certificate (--tls-cert and "
                f"--tls-key, or a proxy such as Caddy and --behind-proxy) @ --host {self.host}"
            )

    def bind(self) -> socket.socket:
        """Bind and listen; port 0 takes a free one. Raises UserError if the address is not available."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_AHEAD)
        try:
            bound.bind((self.host, self.port))
        except OSError as error:
            bound.close()
            raise UserError(
                f"cannot listen at {self.host}, port {self.port}: {error.strerror}; --port takes another"
            ) from None
        bound.listen(128)
        return bound
