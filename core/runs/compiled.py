"""What torch has compiled for a run, kept beside it: FOLDER holds an archive of torch's cache, and a record of it.

A compiled cache is code, which a run from elsewhere must not bring along. So the record is signed with a key that does
not leave the user's own configuration folder, and an archive is opened only where the signature, the archive's hash,
torch, Python, the device and the code of accomp are those of the record. Then its files go into torch's own cache,
where torch finds them by the hash of what it would compile.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import secrets
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from accomp.core.compute.compiled_code import facts, torch_cache
from accomp.core.console import say, warn
from accomp.core.errors import DataError
from accomp.core.files import read_record, write_atomic
from accomp.core.trouble import named

FOLDER, ARCHIVE, RECORD = "compiled", "cache.tar", "cache.json"
FORMAT = 1
AGAIN = "run `accomp compile` again"
PLACES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Where torch and Triton keep what they compile."""


@contextmanager
def collected() -> Iterator[Path]:
    """Let torch keep what it compiles meanwhile in an empty folder, which is removed at the end."""
    before = {name: os.environ.pop(name, None) for name in PLACES}
    with tempfile.TemporaryDirectory(prefix="accomp-compile-") as folder:
        os.environ[PLACES[0]] = folder
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def keep(cache: Path, run: Path, device: torch.device) -> int:
    """Write the files of a cache beside a run, signed -> the size in bytes. Raises DataError where it cannot."""
    archive = _archive(cache)
    record: dict[str, Any] = {"format": FORMAT, "bytes": len(archive), "sha256": hashlib.sha256(archive).hexdigest()}
    record |= facts(device)
    key = _key(make=True)
    if key is None:
        raise DataError(f"the key that signs compiled steps is empty or cannot be read; remove it @ {key_file()}")
    record["signature"] = _signature(record, key)
    drop(run)
    write_atomic(run / FOLDER / ARCHIVE, archive)
    write_atomic(run / FOLDER / RECORD, json.dumps(record, indent=2) + "\n")
    return len(archive)


def drop(run: Path) -> None:
    """Remove what is kept beside a run, if anything is."""
    for name in (RECORD, ARCHIVE):
        with named(run / FOLDER / name):
            (run / FOLDER / name).unlink(missing_ok=True)


def use(run: Path, device: torch.device) -> bool:
    """Put what is kept beside a run into torch's cache -> whether that was done; says why not, in one line.

    A damaged archive, one of another machine, user or version, is left alone: torch compiles as if there were none.
    """
    if not (run / FOLDER / RECORD).exists():
        return False
    try:
        record = read_record(run / FOLDER / RECORD, AGAIN)
        why = _difference(record, device) or _forgery(record)
        archive = b"" if why else (run / FOLDER / ARCHIVE).read_bytes()
    except (DataError, OSError) as error:
        warn(f"the compiled steps beside the run are not used: {error}")
        return False
    if not why and hashlib.sha256(archive).hexdigest() != record["sha256"]:
        why = f"the archive is damaged, its hash is not the recorded one; {AGAIN}"
    if why:
        warn(f"the compiled steps beside the run are not used: {why} @ {run / FOLDER}")
        return False
    _open(archive, torch_cache())
    say(f"compiled steps @ {run / FOLDER}")
    return True


def _difference(record: dict[str, Any], device: torch.device) -> str:
    """Why the record is not of this place, "" where it is."""
    if record.get("format") != FORMAT:
        return f"format {record.get('format')!r} there, {FORMAT} here; {AGAIN}"
    for name, here in facts(device).items():
        if (there := record.get(name)) != here:
            return f"{name} {there} there, {here} here; {AGAIN}"
    return ""


def _forgery(record: dict[str, Any]) -> str:
    """Why the record may not be trusted, "" where it may."""
    key = _key()
    if key is None or not hmac.compare_digest(_signature(record, key), str(record.get("signature"))):
        return f"they were not made by you on this machine, and compiled steps are code; {AGAIN}"
    return ""


def _signature(record: dict[str, Any], key: bytes) -> str:
    signed = {name: value for name, value in record.items() if name != "signature"}
    return hmac.new(key, json.dumps(signed, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def key_file() -> Path:
    """The file of the key: $XDG_CONFIG_HOME/accomp/compile.key, or in ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "accomp" / "compile.key"


def _key(*, make: bool = False) -> bytes | None:
    """The user's key; None where there is none, and it is not to be made. Raises DataError where it cannot be made."""
    path = key_file()
    if make and not path.exists():
        with named(path, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent)  # readable by its owner alone
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            os.replace(name, path)
    try:
        return path.read_bytes() or None
    except OSError:
        return None


def _archive(cache: Path) -> bytes:
    """The files of a folder as a tar file, without times and owners; locks are left out."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for path in sorted(cache.rglob("*")):
            if not path.is_file() or path.is_symlink() or path.suffix == ".lock":
                continue
            entry = tarfile.TarInfo(path.relative_to(cache).as_posix())
            entry.size, entry.mode = path.stat().st_size, path.stat().st_mode & 0o755
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return whole.getvalue()


def _open(archive: bytes, cache: Path) -> None:
    """Put the files of an archive into a folder; those that are there already stay, each is written completely or not
    at all."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            entry = tarfile.data_filter(entry, str(cache))
            path, file = cache / entry.name, tar.extractfile(entry)
            if file is not None and not path.exists():
                write_atomic(path, file.read())
                path.chmod(0o600 | (entry.mode or 0))
