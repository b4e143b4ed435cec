"""Files and folders of YAML and JSON, watched while running."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from meshlib.errors import ConfigError
from meshlib.providers.base import Facts
from meshlib.providers.folder import SUFFIXES, Folder, is_folder

__all__ = ["FileProvider"]

_LOG = logging.getLogger("meshlib")
_SOON = 0.25
"""Seconds until a file that was found empty is looked at again."""
_LONGEST_REST = 1.0


class FileProvider:
    """Serves the objects of a file, or of all ``.yaml``, ``.yml`` and ``.json`` files below a folder.

    Hidden files and folders are passed over; a Kubernetes volume's swap of ``..data`` is noticed. Changes are
    noticed by the operating system where it can (``watchfiles``), and by looking every ``poll`` seconds in any case.
    What cannot be read stays in force as it was last read, and is a problem of the mesh meanwhile.

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
        self._poll = poll
        self._folder = Folder(self.path, strict)
        if not _identity(self.path) is not None:
            raise ConfigError(f"no such file or folder: {path}")

    def look(self) -> Facts:
        """Read what changed; the very same value as before when nothing did."""
        return self._folder.look()

    async def run(self, publish: Callable[[Facts], None]) -> None:
        """See ``Provider.run``."""
        known: Facts | None = None
        changed = asyncio.Event()
        watching = asyncio.create_task(self._watch(changed))
        try:
            while True:
                started = time.monotonic()
                changed.clear()
                facts = self.look()
                if facts is not known:
                    known = facts
                    publish(facts)
                # a folder that is written to all the time may take a third of this thread, not more
                await asyncio.sleep(min(2 * (time.monotonic() - started), _LONGEST_REST))
                await self._wait(changed)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _wait(self, changed: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(changed.wait(), _SOON if self._folder.unsettled else self._poll)
        except TimeoutError:
            pass

    async def _watch(self, changed: asyncio.Event) -> None:
        """Set ``changed`` at each change that the system reports; a folder that came back is watched anew."""
        told = ""
        while True:
            try:
                await self._watch_until_replaced(changed)
            except Exception as error:  # too many watches, or none on this file system
                reason = f"{type(error).__name__}: {error}"
                if reason != told and _identity(self.path) is not None:
                    told = reason
                    _LOG.warning("%s is looked at every %g s, not watched: %s", self.path, self._poll, reason)
            changed.set()
            await asyncio.sleep(self._poll)

    async def _watch_until_replaced(self, changed: asyncio.Event) -> None:
        import watchfiles

        folder = self.path if is_folder(self.path) else self.path.parent
        identity = _identity(folder)
        watcher = watchfiles.awatch(
            folder,
            stop_event=(stop := asyncio.Event()),
            watch_filter=_concerns_us,
            debounce=50,
            step=20,
            rust_timeout=max(1, int(self._poll * 1000)),
            yield_on_timeout=True,
            recursive=is_folder(self.path),
        )
        try:
            async for changes in watcher:
                if _identity(folder) != identity:
                    return
                if changes:
                    changed.set()
        finally:
            stop.set()
            await watcher.aclose()


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _concerns_us(change: object, path: str) -> bool:
    """Files of ours, and what may be a folder or the link of a Kubernetes volume; not the log that grows beside."""
    suffix = Path(path).suffix
    return suffix in SUFFIXES or not suffix or Path(path).name.startswith("..")
