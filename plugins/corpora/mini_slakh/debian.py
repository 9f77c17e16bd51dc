"""Debian packages that hold music, fetched and unpacked without root: `apt-get download`, then `dpkg-deb -x`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from attrs import frozen

from accomp.core.errors import DataError
from accomp.core.files import folder_atomic

_TIMEOUT = 300  # s; the larger package is 16 MB


@frozen
class Package:
    """A package with music inside: MIDI files, or WAD files with MIDI lumps."""

    name: str
    licence: str


MUSIC = (Package("freedoom", "BSD-3-Clause"), Package("openttd-openmsx", "GPL-2.0-only"))


@frozen
class Unpacked:
    """A package's files under `folder`."""

    package: Package
    version: str
    folder: Path


def unpack(package: Package, cache: Path) -> Unpacked:
    """The package as unpacked in `cache`; downloaded where it is not there yet.

    Raises DataError, with what apt said, where the package cannot be had.
    """
    folder = cache.resolve() / package.name
    if not (folder / "VERSION").is_file():
        _download(package.name, folder)
    return Unpacked(package, (folder / "VERSION").read_text().strip(), folder)


def _download(name: str, folder: Path) -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise DataError(f"cannot fetch Debian package {name}: {' and '.join(missing)} not found; {_INSTEAD}")
    with tempfile.TemporaryDirectory(prefix="accomp-deb-") as work:
        _fetch(name, Path(work))
        archives = list(Path(work).glob("*.deb"))
        if len(archives) != 1:
            raise DataError(f"apt-get download {name} left {len(archives)} .deb files; expected 1; {_INSTEAD}")
        version = _call(["dpkg-deb", "-f", str(archives[0]), "Version"], name, Path(work)).strip()
        with folder_atomic(folder) as unpacked:
            _call(["dpkg-deb", "-x", str(archives[0]), str(unpacked)], name, Path(work))
            (unpacked / "VERSION").write_text(version + "\n")


def _fetch(name: str, work: Path) -> None:
    """Download a package into `work`; with package lists fetched there where the machine has none that name it."""
    try:
        _call(["apt-get", "download", name], name, work)
    except DataError:
        lists = work / "lists"
        (lists / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={lists}", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
        _call(["apt-get", "update", *own], name, work)
        _call(["apt-get", "download", name, *own], name, work)


def _call(command: list[str], name: str, where: Path) -> str:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout).split()) or f"exit status {error.returncode}"
        raise DataError(
            f"cannot fetch Debian package {name}: {' '.join(command[:2])}: {said}; "
            f"see whether `apt-get update` works on this machine; {_INSTEAD}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"cannot fetch Debian package {name}: {error}; {_INSTEAD}") from error
    return done.stdout


_INSTEAD = "or use --midi FOLDER (your own MIDI files) or --source composer"
