"""What stands in a file or below a folder now, read again only where something changed.

What cannot be read stays as it was and is told as a problem: a folder that is gone or closed, a file that is refused.
A file that is gone is gone. One that suddenly holds nothing is taken at its word at the second look only: many editors
and ``>`` empty a file before they fill it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from meshlib.config.resources import Loaded, Resource
from meshlib.config.resources.bounds import MAX_BYTES
from meshlib.config.resources.reload import Source
from meshlib.model.problem import Problem, schema_error
from meshlib.providers.base import Facts

__all__ = ["SUFFIXES", "Folder", "is_folder"]

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_RACY = 2.0
"""Seconds: a file as young as this may change again without its times showing it, so it is read at the next look."""

Signature = tuple[int, int, int, int]


def is_folder(path: Path) -> bool:
    """Whether it is a folder now; a path that cannot be asked about is none."""
    try:
        return S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


@dataclass(slots=True)
class _File:
    """One file, as it was read last.

    Attributes:
        source: Its documents.
        signature: What ``stat`` said; None to read it again in any case.
        digest: Of its content, or why there is none.
        loaded: Its objects.
        emptied: It was found empty once, and its objects are still the ones before.
    """

    source: Source
    signature: Signature | None = None
    digest: str = ""
    loaded: Loaded = Loaded([], [])
    emptied: bool = False


class Folder:
    """A file, or all ``.yaml``, ``.yml`` and ``.json`` files below a folder; hidden ones are passed over.

    Attributes:
        path: The file or folder.
        unsettled: Whether something was found that the next look, soon, will tell more about.
    """

    def __init__(self, path: Path, strict: bool = False) -> None:
        self.path = path
        self.unsettled = False
        self._strict = strict
        self._files: dict[str, _File] = {}
        self._unread: dict[str, str] = {}
        self._told: Facts | None = None

    def look(self) -> Facts:
        """Everything there is; the very same value as before when nothing changed."""
        self.unsettled = False
        self._unread = {}
        now: dict[str, _File] = {}
        for path in self._walk():
            file = self._read(path)
            if file is not None:
                now[path] = file
        self._keep_what_is_closed(now)
        self._files = dict(sorted(now.items()))
        version = self._digest()
        if self._told is None or self._told.version != version:
            self._told = self._facts(version)
        return self._told

    # Finding --------------------------------------------------------------------------------------------------------

    def _walk(self) -> Iterator[str]:
        """The paths of all files; folders that cannot be listed are noted."""
        if is_folder(self.path):
            yield from self._below(str(self.path))
        elif not self._was_folder():
            yield str(self.path)
        else:
            self._unread[str(self.path)] = "the folder is gone, or closed to this process"

    def _was_folder(self) -> bool:
        return any(path != str(self.path) for path in self._files)

    def _below(self, folder: str) -> Iterator[str]:
        try:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            self._unread[folder] = f"the folder cannot be read: {error.strerror or error}"
            return
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path)
            elif Path(entry.name).suffix in SUFFIXES:
                yield entry.path

    def _keep_what_is_closed(self, now: dict[str, _File]) -> None:
        for folder in self._unread:
            for path, file in self._files.items():
                if path.startswith(folder + os.sep):
                    now.setdefault(path, file)

    # Reading --------------------------------------------------------------------------------------------------------

    def _read(self, path: str) -> _File | None:
        """The file now; None when it has gone meanwhile, or is no file."""
        file = self._files.get(path) or _File(Source(path, self._strict))
        try:
            status = Path(path).stat()
            if not S_ISREG(status.st_mode):
                return None if Path(path) != self.path else self._fail(file, path, "it is no file")
            signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if signature == file.signature:
                return file
            with Path(path).open("rb") as content:
                self._take(file, content.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return None if Path(path) != self.path else self._fail(file, path, "it is gone")
        except OSError as error:
            return self._fail(file, path, error.strerror or str(error))
        old = time.time() - max(status.st_mtime, status.st_ctime) > _RACY
        file.signature = signature if old and not file.emptied else None
        return file

    def _take(self, file: _File, raw: bytes) -> None:
        file.emptied = not raw.strip() and bool(file.loaded.resources) and not file.emptied
        if file.emptied:
            self.unsettled = True
            return
        digest = hashlib.sha256(raw).hexdigest()
        if digest != file.digest:
            file.loaded, file.digest = file.source.read(raw), digest

    def _fail(self, file: _File, path: str, reason: str) -> _File:
        """Its objects are left out here; the feed keeps those that it had from this file."""
        file.signature, file.digest = None, reason
        file.loaded = Loaded([], [schema_error("", f"cannot be read: {reason}", path)])
        return file

    # Telling --------------------------------------------------------------------------------------------------------

    def _digest(self) -> str:
        rows = [f"{path}:{file.digest}" for path, file in self._files.items()]
        rows.extend(f"{folder}:{reason}" for folder, reason in self._unread.items())
        return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def _facts(self, version: str) -> Facts:
        resources: list[Resource[Any]] = []
        problems: list[Problem] = []
        for folder, reason in self._unread.items():
            problems.append(schema_error("", f"{reason}; what was read before stays in force", folder))
        for file in self._files.values():
            resources.extend(file.loaded.resources)
            problems.extend(file.loaded.problems)
        return Facts(tuple(resources), tuple(problems), version)
