"""Where a store lies: a folder, or a prefix of an object store such as s3://bucket/name or gs://bucket/name.

Folders are pathlib's paths. `ObjectPath` has those of their methods that reading needs, over fsspec; the functions
below read either kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accomp.zarr_store.layout import StoreError

ReadRange = Callable[[int, int], bytes]
"""(offset, how many bytes) -> bytes."""


def place(path: str | Path | ObjectPath) -> Path | ObjectPath:
    """A folder, or an object store where the text is a URL. "simplecache::s3://..." keeps what is read on the disk.

    Raises StoreError for a URL whose library is missing or that it does not understand.
    """
    if isinstance(path, str) and "://" in path:
        return ObjectPath.at(path)
    return Path(path) if isinstance(path, str) else path


class ObjectPath:
    """A name in an object store, which knows no folders, only names with the same beginning."""

    def __init__(self, filesystem: Any, path: str, url: str):
        """`filesystem` is fsspec's, `path` what it calls the place, `url` what people do."""
        self.filesystem, self.path, self.url = filesystem, path.rstrip("/"), url.rstrip("/")

    @classmethod
    def at(cls, url: str) -> ObjectPath:
        """As `place`."""
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
        """The last part of it."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        """Without its last part."""
        return ObjectPath(self.filesystem, self.path.rpartition("/")[0], self.url.rpartition("/")[0])

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.filesystem, f"{self.path}/{name}", f"{self.url}/{name}")

    def joinpath(self, *names: str) -> ObjectPath:
        """A place below this one."""
        return self / "/".join(names) if names else self

    def __str__(self) -> str:
        return self.url

    def exists(self) -> bool:
        """Whether there is an object of this name, or any below it."""
        with self.errors_named():
            self.filesystem.invalidate_cache()
            return bool(self.filesystem.exists(self.path))

    def iterdir(self) -> Iterator[ObjectPath]:
        """What lies directly below, in no order; nothing where there is nothing."""
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
        """The whole object. Raises FileNotFoundError where there is none."""
        with self.errors_named():
            return bytes(self.filesystem.cat_file(self.path))

    def write_bytes(self, data: bytes) -> None:
        """Put an object: others see the old one or the new one, never a part."""
        with self.errors_named():
            self.filesystem.pipe_file(self.path, data)

    def create(self, data: bytes) -> bool:
        """Put an object where there is none of that name; whether there was none."""
        try:
            self.filesystem.pipe_file(self.path, data, mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or self.exists():  # libraries tell it in different words
                return False
            with self.errors_named():
                raise
        return True

    def unlink(self) -> None:
        """Delete an object, where it is there."""
        with self.errors_named():
            try:
                self.filesystem.rm_file(self.path)
            except FileNotFoundError:
                return

    def below(self) -> list[ObjectPath]:
        """All objects below, in order."""
        with self.errors_named():
            self.filesystem.invalidate_cache()
            found = sorted(self.filesystem.find(self.path))
        return [self / path[len(self.path) :].strip("/") for path in found]

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Whatever a library for some object store may raise becomes a StoreError that names the place."""
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except Exception as error:
            raise StoreError(f"{type(error).__name__}: {error} @ {self.url}") from error


def children(folder: Path | ObjectPath, name: str) -> Iterator[tuple[Path | ObjectPath, bytes | None]]:
    """Each folder directly below, in order, and its file of that name; None where it has none."""
    if isinstance(folder, ObjectPath):
        below = sorted(folder.iterdir(), key=lambda child: child.path)
        files = {child.path: child / name for child in below}
        with folder.errors_named():  # all at once: object stores answer slowly, and many questions together
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
    """For reading parts of a file. Raises FileNotFoundError where there is none."""
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
    """Bytes of a file. Raises FileNotFoundError where there is none."""
    if isinstance(file, ObjectPath):
        with file.errors_named():
            return int(file.filesystem.size(file.path))
    return file.stat().st_size


def bytes_below(folder: Path | ObjectPath) -> int:
    """Bytes of all files below a folder."""
    if isinstance(folder, ObjectPath):
        with folder.errors_named():
            folder.filesystem.invalidate_cache()
            return int(folder.filesystem.du(folder.path))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
