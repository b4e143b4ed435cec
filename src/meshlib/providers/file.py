"""Files and folders of YAML and JSON, watched while running."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

from meshlib.config.resources import Loaded, Resource, load_file
from meshlib.errors import ConfigError
from meshlib.model.problem import Problem, schema_error
from meshlib.providers.base import Facts

__all__ = ["FileProvider"]

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


class FileProvider:
    """Serves the objects of a file, or of all ``.yaml``, ``.yml`` and ``.json`` files below a folder.

    Hidden files and folders are passed over; a Kubernetes volume's swap of ``..data`` is noticed. Changes are
    noticed by the operating system where it can (``watchfiles``), and by looking every ``poll`` seconds in any case.

    Args:
        path: File or folder.
        strict: Refuse objects with unknown fields.
        poll: Seconds between looks, for file systems that notify nobody.

    Raises:
        ConfigError: The path does not exist.
    """

    def __init__(self, path: str | Path, *, strict: bool = False, poll: float = 5.0) -> None:
        self.path = Path(path)
        self.name = f"file:{path}"
        self._strict = strict
        self._poll = poll
        self._seen: dict[Path, tuple[str, Loaded]] = {}
        if not self.path.exists():
            raise ConfigError(f"no such file or folder: {path}")

    async def run(self, publish: Callable[[Facts], None]) -> None:
        """See ``Provider.run``."""
        known: list[str] | None = None
        changes = self._changes()
        try:
            while True:
                digests = self._read()
                if digests != known:
                    known = digests
                    publish(self._facts(digests))
                await anext(changes)
        finally:
            await changes.aclose()

    async def _changes(self) -> AsyncGenerator[None, None]:
        """Yields after each change that the system reports, and at least every ``poll`` seconds."""
        import watchfiles

        stop = asyncio.Event()
        folder = self.path if self.path.is_dir() else self.path.parent
        watcher = watchfiles.awatch(
            folder,
            stop_event=stop,
            watch_filter=None,
            debounce=50,
            step=20,
            rust_timeout=int(self._poll * 1000),
            yield_on_timeout=True,
        )
        try:
            async for _ in watcher:
                yield
        finally:
            stop.set()

    def _files(self) -> Iterator[Path]:
        if not self.path.is_dir():
            yield self.path
            return
        for path in sorted(self.path.rglob("*")):
            parts = path.relative_to(self.path).parts
            if path.suffix in _SUFFIXES and not any(part.startswith(".") for part in parts) and path.is_file():
                yield path

    def _read(self) -> list[str]:
        """Read what changed; a digest for each file."""
        fresh: dict[Path, tuple[str, Loaded]] = {}
        for path in self._files():
            digest, loaded = self._load(path)
            fresh[path] = (digest, loaded)
        self._seen = fresh
        return [f"{path}:{digest}" for path, (digest, _) in fresh.items()]

    def _load(self, path: Path) -> tuple[str, Loaded]:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            known = self._seen.get(path)
            if known is not None and known[0] == digest:
                return known
            return digest, load_file(path, strict=self._strict)
        except OSError as error:
            reason = error.strerror or str(error)
            return reason, Loaded([], [schema_error("", f"cannot be read: {reason}", str(path))])

    def _facts(self, digests: list[str]) -> Facts:
        resources: list[Resource[Any]] = []
        problems: list[Problem] = []
        for _, loaded in self._seen.values():
            resources.extend(loaded.resources)
            problems.extend(loaded.problems)
        version = hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]
        return Facts(tuple(resources), tuple(problems), version)
