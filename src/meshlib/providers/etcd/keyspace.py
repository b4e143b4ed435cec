"""What stands under some prefixes, kept by listing and by events; no sockets.

Source: etcd's documentation, "etcd API": a list is true at its revision, events come in the order of revisions, those
of one revision together. A delayed response may carry a newer revision in its header than in its last event, so only
events, and responses that are notes of progress, say how far one has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshlib.providers.etcd.gateway import bytes_of, number
from meshlib.providers.http import BadAnswer

__all__ = ["Keyspace"]


class Keyspace:
    """Keys and values.

    Attributes:
        values: Key -> value.
        revision: All up to it is known; 0 before the first list.
        cluster: Whose it is.
        kept: Keys that a cluster which lost its history does not have; they stay until they are heard of or released.
    """

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.revision = 0
        self.cluster = ""
        self.kept: set[bytes] = set()

    def is_other(self, header: Mapping[str, Any]) -> bool:
        """Whether an answer is of another cluster, or of one that lost its history, for example to a backup."""
        return self.revision > 0 and (
            _cluster(header) != self.cluster or number(header.get("revision")) < self.revision
        )

    def listed(self, kvs: Iterable[Mapping[str, Any]], header: Mapping[str, Any]) -> set[bytes]:
        """Everything there is at the header's revision; the keys that came, changed or went."""
        now = {bytes_of(kv.get("key")): bytes_of(kv.get("value")) for kv in kvs}
        if self.is_other(header):
            self.kept |= self.values.keys()
        self.kept -= now.keys()
        now |= {key: self.values[key] for key in self.kept}
        changed = {key for key, value in now.items() if self.values.get(key) != value}
        changed |= self.values.keys() - now.keys()
        self.values = now
        self.revision = number(header.get("revision"))
        self.cluster = _cluster(header)
        return changed

    def heard(self, result: Mapping[str, Any]) -> set[bytes]:
        """One response of a watch; the keys that it changed. What is known already changes nothing.

        Raises:
            BadAnswer: It cannot be read; nothing of it was taken.
        """
        events = result.get("events") or ()
        if not isinstance(events, list | tuple):
            raise BadAnswer(200, "events are no list")
        if not (events or result.get("created") or result.get("canceled")):
            self.revision = max(self.revision, number((result.get("header") or {}).get("revision")))
        read = [_read(event) for event in events]
        changed: set[bytes] = set()
        for revision, key, value in read:
            if revision <= self.revision:
                continue
            self.kept.discard(key)
            if self.values.get(key) != value:
                changed.add(key)
                if value is None:
                    self.values.pop(key, None)
                else:
                    self.values[key] = value
        self.revision = max([self.revision, *(revision for revision, _, _ in read)])
        return changed

    def release(self) -> set[bytes]:
        """What was kept is gone; its keys."""
        gone, self.kept = self.kept, set()
        for key in gone:
            del self.values[key]
        return gone


def _read(event: Any) -> tuple[int, bytes, bytes | None]:
    kv = event.get("kv") if isinstance(event, Mapping) else None
    if not isinstance(kv, Mapping):
        raise BadAnswer(200, "an event has no key")
    gone = str(event.get("type", "PUT")) in ("DELETE", "1")
    return number(kv.get("mod_revision")), bytes_of(kv.get("key")), None if gone else bytes_of(kv.get("value"))


def _cluster(header: Mapping[str, Any]) -> str:
    return str(header.get("cluster_id", ""))
