"""What was good, kept in a file, so that a process can begin while its control plane is away.

The file holds the resources as they came. It counts only for the same node and servers, is replaced as a whole, and is
read with the same checks as an answer.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from meshlib.xds.ads.cache import Cache
from meshlib.xds.ads.kinds import Kind
from meshlib.xds.bootstrap import Bootstrap
from meshlib.xds.messages import any_pb2, discovery_pb2, message

__all__ = ["Disk"]

_LOG = logging.getLogger("meshlib")
Kept = dict[Kind, list[tuple[str, Any, str]]]


class Disk:
    """A file of good resources.

    Args:
        path: Of the file.
        bootstrap: Whose resources they are.
    """

    def __init__(self, path: str | Path, bootstrap: Bootstrap) -> None:
        self.path = Path(path)
        servers = ",".join(server.uri for server in bootstrap.servers)
        self._owner = hashlib.sha256(f"{bootstrap.node.id} {servers}".encode()).hexdigest()

    def load(self) -> Kept:
        """What was kept; nothing where the file is absent, broken, or another client's."""
        try:
            kept = discovery_pb2.DiscoveryResponse.FromString(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, message.DecodeError) as error:
            _LOG.warning("what was kept in %s cannot be read: %s", self.path, error)
            return {}
        if kept.control_plane.identifier != self._owner:
            return {}
        found: Kept = {}
        for packed in kept.resources:
            each = discovery_pb2.Resource()
            unpacked = packed.Unpack(each)
            kind = Kind.of(each.resource.type_url) if unpacked else None
            if kind is not None:
                found.setdefault(kind, []).append((each.name, each.resource, each.version))
        return found

    def pack(self, cache: Cache) -> bytes:
        """The file's contents for what is good now; nothing with a private key is written down."""
        kept = discovery_pb2.DiscoveryResponse()
        kept.control_plane.identifier = self._owner
        for kind in Kind:
            for name, entry in cache.entries(kind).items():
                if entry.value is not None and not entry.is_secret:
                    inner = any_pb2.Any(type_url=kind.url, value=entry.packed)
                    kept.resources.add().Pack(discovery_pb2.Resource(name=name, version=entry.version, resource=inner))
        return bytes(kept.SerializeToString())

    def save(self, contents: bytes) -> None:
        """Replace the file, which only its owner may read; a failure is told and changes nothing."""
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            beside.unlink(missing_ok=True)
            beside.touch(0o600, exist_ok=False)
            beside.write_bytes(contents)
            beside.replace(self.path)
        except OSError as error:
            _LOG.warning("the good configuration cannot be kept in %s: %s", self.path, error)
