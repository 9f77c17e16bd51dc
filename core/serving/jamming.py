"""`accomp jam` and `accomp serve`: a server in this process, until it is told to end."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from attrs import field, frozen

from accomp.core.console import say, warn
from accomp.core.errors import PluginError, UserError
from accomp.core.registry import Registry
from accomp.core.runs.models import find_model

LIBRARIES = ("starlette", "uvicorn", "websockets", "httptools", "prometheus_client", "soxr")


@frozen
class Wanted:
    """What is asked of `accomp jam` or `accomp serve`.

    Attributes:
        slots: sessions of each run; None: as many as fit.
        record: the folder of recordings; None: nothing is recorded.
    """

    runs: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8765
    slots: int | None = None
    cert: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    origins: Sequence[str] = ()
    token_file: Path | None = None
    record: Path | None = None
    runtime: Sequence[str] = ()
    guidance: Mapping[str, float] | None = None
    force: bool = False
    browser: bool = False
    limits: Mapping[str, float] = field(factory=dict)


def jam(wanted: Wanted, registry: Registry) -> None:
    """One musician on this machine; the page is there while the model still warms up.

    Raises UserError for runs, addresses and folders that cannot be used, PluginError where libraries are missing,
    CombinationError for models that are too slow, WorkError where the model fails.
    """
    _serve("jam", wanted, registry)


def serve(wanted: Wanted, registry: Registry) -> None:
    """Many musicians, by one clock. Raises as `jam` does, and where not even one session fits."""
    _serve("serve", wanted, registry)


def _serve(mode: str, wanted: Wanted, registry: Registry) -> None:
    from accomp.core.serving.address import Address
    from accomp.core.serving.security import Door, checked_origins, token_from

    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise PluginError(f"a live page needs {', '.join(missing)}; run: pip install 'accomp[serve]'")
    address = Address(wanted.host, wanted.port, wanted.cert, wanted.key, wanted.behind_proxy)
    address.check()
    origins, token = checked_origins(wanted.origins), token_from(wanted.token_file)
    runs = _runs(wanted.runs, registry)
    bound = address.bind()
    _introduce(
        address.url(bound.getsockname()[1], token), wanted
    )  # who knocks before the libraries are there waits at the door

    from accomp.core.serving.limits import Limits
    from accomp.core.serving.logs import to_stderr
    from accomp.core.serving.opening import Opening
    from accomp.core.serving.playing.engine import Engine
    from accomp.core.serving.playing.recording import Recorder
    from accomp.core.serving.server import Server
    from accomp.core.serving.web import run_until_signal

    try:
        recorder = None if wanted.record is None else Recorder(wanted.record)
    except OSError as error:
        raise UserError(f"cannot record there: {error.strerror} @ --record {wanted.record}") from None
    limits = Limits(hellos_per_minute=60, sessions_per_address=4) if mode == "jam" else Limits(**wanted.limits)  # type: ignore[arg-type]
    server = Server(mode, Engine(), Door(token, origins), limits, recorder=recorder)
    opening = Opening(
        runs, registry, slots=1 if mode == "jam" else wanted.slots, runtime=wanted.runtime, guidance=wanted.guidance,
        force=wanted.force,
    )  # fmt: skip
    if mode == "serve":
        to_stderr()
    with opening.stack:
        run_until_signal(server, address, bound, lambda tell: opening.prepare(server, tell))
    say("ended")


def _introduce(url: str, wanted: Wanted) -> None:
    say(f"open {url}")
    if wanted.record is not None:
        say(f"recordings: {wanted.record.resolve()}")
    if wanted.browser:
        threading.Thread(target=_open, args=(url,), daemon=True).start()


def _open(url: str) -> None:
    if not webbrowser.open(url):
        warn(f"no browser could be opened here; open {url} yourself")


def _runs(names: Sequence[str], registry: Registry) -> dict[str, Path]:
    """Each run under a name of its own. Raises UserError for what is no run, and for one that is named twice."""
    runs: dict[str, Path] = {}
    for name in names or _usual(registry):
        short = Path(name).name if Path(name).is_dir() else name
        if short in runs:
            raise UserError(f"two runs are called {short!r}; rename the folder of one @ {name}")
        runs[short] = find_model(name, registry)
    return runs


def _usual(registry: Registry) -> list[str]:
    """The model that comes along. Raises UserError where none does."""
    if not (there := registry.names("model")):
        raise UserError("no model comes along; name a run folder")
    return [there[0]]
