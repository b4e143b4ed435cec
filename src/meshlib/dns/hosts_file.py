"""The system's table of host names, which comes before DNS: containers get their aliases by it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

__all__ = ["HostsFile"]


class HostsFile:
    """Reads the file again when it changed; a file that cannot be read names nobody."""

    def __init__(self, path: str | Path = "/etc/hosts") -> None:
        self._path = Path(path)
        self._read_at: tuple[int, int] = (0, 0)
        self._names: dict[str, tuple[str, ...]] = {}

    def addresses(self, name: str) -> tuple[str, ...]:
        """What the file says of a name, in its order; nothing for one that it does not know."""
        try:
            status = self._path.stat()
            if self._read_at != (status.st_mtime_ns, status.st_ino):
                self._names = _parsed(self._path.read_text("utf-8", "replace"))
                self._read_at = (status.st_mtime_ns, status.st_ino)
        except OSError:
            self._names, self._read_at = {}, (0, 0)
        return self._names.get(name.rstrip(".").lower(), ())


def _parsed(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if not names or not _is_address(address):
            continue
        for name in names:
            found[name.lower()] = (*found.get(name.lower(), ()), address)
    return found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
