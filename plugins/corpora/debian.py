"""Debian packages as data, downloaded and unpacked without root: `apt-get download`, then `dpkg-deb -x`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from accomp.core.errors import DataError
from accomp.core.files import folder_atomic

_TIMEOUT = 3600  # s; packages have up to 210 MB; apt has its own timeout for servers
_OWN_LISTS = ("Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache=")


@frozen
class Unpacked:
    """An unpacked package: its files are under `folder`."""

    name: str
    version: str
    folder: Path


def default_cache() -> Path:
    """$XDG_CACHE_HOME/accomp/debian, or ~/.cache/accomp/debian if unset."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accomp" / "debian"


def unpack(name: str, cache: Path, *, instead: str, announce: Callable[[str], None] | None = None) -> Unpacked:
    """Return the package unpacked in `cache`, downloaded if necessary.

    `instead`: alternative to the package, for messages. `announce` receives the size before a download. Raises
    DataError with the output of apt if the package is unavailable.
    """
    folder = cache.resolve() / name
    if not (folder / "VERSION").is_file():
        try:
            _download(name, folder, announce)
        except DataError as error:
            raise DataError(f"cannot fetch Debian package {name}: {error}; {instead}") from error
    return Unpacked(name, (folder / "VERSION").read_text().strip(), folder)


def _download(name: str, folder: Path, announce: Callable[[str], None] | None) -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise DataError(f"{' and '.join(missing)} not found")
    with tempfile.TemporaryDirectory(prefix="accomp-deb-") as work:
        _fetch(name, Path(work), announce)
        archives = list(Path(work).glob("*.deb"))
        if len(archives) != 1:
            raise DataError(f"apt-get download {name} left {len(archives)} .deb files; expected 1")
        version = _call(["dpkg-deb", "-f", str(archives[0]), "Version"], Path(work)).strip()
        with folder_atomic(folder) as unpacked:
            _call(["dpkg-deb", "-x", str(archives[0]), str(unpacked)], Path(work))
            (unpacked / "VERSION").write_text(version + "\n")


def _fetch(name: str, work: Path, announce: Callable[[str], None] | None) -> None:
    """Download a package into `work`, after fetching package lists if the machine lacks them."""
    try:
        _get(name, work, [], announce)
    except DataError:
        lists = work / "lists"
        (lists / "partial").mkdir(parents=True)
        own = [word for setting in (f"Dir::State::Lists={lists}", *_OWN_LISTS) for word in ("-o", setting)]
        _call(["apt-get", "update", *own], work)
        _get(name, work, own, announce)


def _get(name: str, work: Path, options: Sequence[str], announce: Callable[[str], None] | None) -> None:
    if announce is not None:
        announce(f"fetching Debian package {name}: {_size(name, work, options)}")
    _call(["apt-get", "download", name, *options], work)


def _size(name: str, work: Path, options: Sequence[str]) -> str:
    """Return the download size from apt's lines 'URL' FILE BYTES HASH. Raises DataError for an unknown package."""
    said = _call(["apt-get", "download", "--print-uris", name, *options], work)
    found = re.search(r"^'\S+' \S+ (\d+)\b", said, re.MULTILINE)
    return f"{int(found[1]) / 1e6:.0f} MB" if found else "size unknown"


def _call(command: list[str], where: Path) -> str:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout).split()) or f"exit status {error.returncode}"
        raise DataError(
            f"{' '.join(command[:2])}: {said}; check that `apt-get update` works on this machine"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(str(error)) from error
    return done.stdout
