"""Location of a store: a folder, or a prefix of an object store such as s3://bucket/name or gs://bucket/name.

Folders are pathlib's paths. `ObjectPath` has the methods of these that reading requires, over fsspec; the functions
below read either kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accomp.zarr_store.layout import StoreError

ReadRange = Callable[[int, int], bytes]
"""(offset, number of bytes) -> bytes."""


def place(path: str | Path | ObjectPath) -> Path | ObjectPath:
    """Return a folder, or an object path for a URL. "simplecache::s3://..." caches reads on the disk.

    Raises StoreError for a URL whose library is missing or whose scheme is unknown.
    """
    if isinstance(path, str) and "://" in path:
        return ObjectPath.at(path)
    return Path(path) if isinstance(path, str) else path


class ObjectPath:
    """A name in an object store, which has no folders, only common prefixes."""

    def __init__(self, filesystem: Any, path: str, url: str):
        """`filesystem` is fsspec's, `path` the name within it, `url` the name for people."""
        self.filesystem, self.path, self.url = filesystem, path.rstrip("/"), url.rstrip("/")

    @classmethod
    def at(cls, url: str) -> ObjectPath:
        """Create a path; see `place`."""
        try:
            from fsspec.core import url_to_fs

            filesystem, path = url_to_fs(url)
        except ImportError as error:
            raise StoreError(
                f"{error}; `pip install 'accomp[s3]'` (or accomp[cloud], for gs:// too) brings it @ {url}"
            ) from error
        except ValueError as error:
            raise StoreError(f"{error} @ {url}") from error
        return cls(filesystem, str(path), url)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """The name without its last part."""
        return ObjectPath(self.filesystem, self.path.rpartition("/")[0], self.url.rpartition("/")[0])

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.filesystem, f"{self.path}/{name}", f"{self.url}/{name}")

    def joinpath(self, *names: str) -> ObjectPath:
        """Append parts to the name."""
        return self / "/".join(names) if names else self

    def __str__(self) -> str:
        return self.url

    def exists(self) -> bool:
        """Test for an object of this name, or any below it."""
        with self.errors_named():
            self.filesystem.invalidate_cache()
            return bool(self.filesystem.exists(self.path))

    def iterdir(self) -> Iterator[ObjectPath]:
        """List the names directly below, in no order; empty where there are none."""
        with self.errors_named():
            self.filesystem.invalidate_cache()  # another process may have written since
            try:
                found = self.filesystem.ls(self.path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return
        for path in found:
            if path.rstrip("/") != self.path:
                yield self / path.rstrip("/").rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """Read the whole object. Raises FileNotFoundError where there is none."""
        with self.errors_named():
            return bytes(self.filesystem.cat_file(self.path))

    def write_bytes(self, data: bytes) -> None:
        """Write an object atomically."""
        with self.errors_named():
            self.filesystem.pipe_file(self.path, data)

    def create(self, data: bytes) -> bool:
        """Write an object unless one of that name exists; True where it was written."""
        try:
            self.filesystem.pipe_file(self.path, data, mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or self.exists():  # libraries raise different errors for it
                return False
            with self.errors_named():
                raise
        return True

    def unlink(self) -> None:
        """Delete an object, if it exists."""
        with self.errors_named():
            try:
                self.filesystem.rm_file(self.path)
            except FileNotFoundError:
                return

    def below(self) -> list[ObjectPath]:
        """List all objects below, in order."""
        with self.errors_named():
            self.filesystem.invalidate_cache()
            found = sorted(self.filesystem.find(self.path))
        return [self / path[len(self.path) :].strip("/") for path in found]

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Convert any exception of an object-store library to a StoreError that names the location."""
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except Exception as error:
            raise StoreError(f"{type(error).__name__}: {error} @ {self.url}") from error


def children(folder: Path | ObjectPath, name: str) -> Iterator[tuple[Path | ObjectPath, bytes | None]]:
    """Yield each folder directly below, in order, with its file of that name; None where it has none."""
    if isinstance(folder, ObjectPath):
        below = sorted(folder.iterdir(), key=lambda child: child.path)
        files = {child.path: child / name for child in below}
        with folder.errors_named():  # concurrently: object stores have a high latency and a high throughput
            found = folder.filesystem.cat([file.path for file in files.values()], on_error="omit") if files else {}
        for child in below:
            if child.name != name:
                yield child, found.get(files[child.path].path)
        return
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            try:
                yield path, (path / name).read_bytes()
            except FileNotFoundError:
                yield path, None


@contextmanager
def ranges(file: Path | ObjectPath) -> Iterator[ReadRange]:
    """Open a file for range reads. Raises FileNotFoundError where there is none."""
    if isinstance(file, ObjectPath):

        def part(offset: int, size: int) -> bytes:
            with file.errors_named():
                return bytes(file.filesystem.cat_file(file.path, start=offset, end=offset + size))

        yield part
        return
    with file.open("rb", buffering=0) as opened:

        def read(offset: int, size: int) -> bytes:
            opened.seek(offset)
            return opened.read(size)

        yield read


def size_of(file: Path | ObjectPath) -> int:
    """Return the bytes of a file. Raises FileNotFoundError where there is none."""
    if isinstance(file, ObjectPath):
        with file.errors_named():
            return int(file.filesystem.size(file.path))
    return file.stat().st_size


def bytes_below(folder: Path | ObjectPath) -> int:
    """Sum the bytes of all files below a folder."""
    if isinstance(folder, ObjectPath):
        with folder.errors_named():
            folder.filesystem.invalidate_cache()
            return int(folder.filesystem.du(folder.path))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
