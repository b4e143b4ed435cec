"""Recorded traffic: JSON lines of our own, access logs as JSON (Envoy's and ours), and HAR files.

What cannot be read is counted with its line and never stops the reading. Equal requests are one with a count; request
ids are dropped from access logs, since every line has another.

Sources: Istio's default JSON access log; HAR 1.2.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

__all__ = ["Recorded", "Traffic", "read_traffic"]

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request that was made, without its body.

    Attributes:
        method: HTTP method.
        url: Absolute URL.
        headers: Names and values.
        source_labels: Labels of the caller; None means the mesh's own.
        source_namespace: Namespace of the caller; None means the mesh's own.
    """

    method: str
    url: str
    headers: Pairs = ()
    source_labels: Pairs | None = None
    source_namespace: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form of our own JSON lines."""
        found: dict[str, Any] = {"method": self.method, "url": self.url, "headers": dict(self.headers)}
        if self.source_labels is not None:
            found["source_labels"] = dict(self.source_labels)
        if self.source_namespace is not None:
            found["source_namespace"] = self.source_namespace
        return found


@dataclass(slots=True)
class Traffic:
    """All that was read.

    Attributes:
        counts: Request -> how often it was made.
        unreadable: (line or entry, counted from 1; why), the first ``EXAMPLES`` of them.
        unreadable_count: How many there were.
        skipped: Why -> how many records were read and do not concern a caller.
    """

    EXAMPLES: ClassVar[int] = 20

    counts: dict[Recorded, int] = field(default_factory=dict)
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    unreadable_count: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def add(self, request: Recorded, count: int = 1) -> None:
        """Count a request."""
        self.counts[request] = self.counts.get(request, 0) + count

    def merge(self, other: Traffic) -> None:
        """Add what another recording holds."""
        for request, count in other.counts.items():
            self.add(request, count)
        for why, count in other.skipped.items():
            self.skipped[why] = self.skipped.get(why, 0) + count
        self.unreadable = [*self.unreadable, *other.unreadable][: self.EXAMPLES]
        self.unreadable_count += other.unreadable_count

    def refuse(self, number: int, why: str) -> None:
        """Count a record that says nothing."""
        self.unreadable_count += 1
        if len(self.unreadable) < self.EXAMPLES:
            self.unreadable.append((number, why))

    def skip(self, why: str) -> None:
        """Count a record that is of no use here."""
        self.skipped[why] = self.skipped.get(why, 0) + 1


class _Skip(Exception):
    """The record is well formed and concerns no caller of the mesh."""


def read_traffic(path: str | Path) -> Traffic:
    """The requests of a file, ``-`` for standard input; a name that ends in ``.gz`` is unpacked.

    Raises:
        OSError: The file cannot be read, or is cut off in its packed form.
    """
    if str(path) == "-":
        return _read(sys.stdin)
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            return _read(file)
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path} cannot be unpacked: {error}") from None


def _read(lines: Iterable[str]) -> Traffic:
    """JSON lines, unless the first line is no whole record: then perhaps one document."""
    traffic, rest = Traffic(), iter(lines)
    first = next(rest, "")
    if isinstance(_parsed(first), dict) and "log" not in (_parsed(first) or {}):
        return _collect(traffic, _numbered(chain([first], rest)))
    everything = [first, *rest]
    entries = _entries(_parsed("".join(everything)))
    return _collect(traffic, _numbered(everything) if entries is None else enumerate(entries, 1))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _parsed(line)


def _entries(document: Any) -> list[Any] | None:
    """The requests of a HAR document, or of a list of records."""
    if isinstance(document, list):
        return document
    log = document.get("log") if isinstance(document, dict) else None
    entries = log.get("entries") if isinstance(log, dict) else None
    if not isinstance(entries, list):
        return None
    return [entry.get("request") if isinstance(entry, dict) else None for entry in entries]


def _collect(traffic: Traffic, records: Iterable[tuple[int, Any]]) -> Traffic:
    for number, record in records:
        try:
            traffic.add(*_request(record))
        except _Skip as reason:
            traffic.skip(str(reason))
        except (ValueError, TypeError) as error:
            traffic.refuse(number, str(error))
    return traffic


# One record ---------------------------------------------------------------------------------------------------------


def _request(record: Any) -> tuple[Recorded, int]:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if "url" in record:
        return _own(record)
    if "path" in record or "authority" in record:
        return _logged(record), 1
    raise ValueError("neither url nor authority and path")


def _own(record: Mapping[str, Any]) -> tuple[Recorded, int]:
    labels, count = record.get("source_labels"), record.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"count {count!r} is no number from 1")
    namespace = record.get("source_namespace")
    request = Recorded(
        _text(record.get("method", "GET"), "method"),
        _url(_text(record["url"], "url")),
        _headers(record.get("headers") or {}),
        None if labels is None else tuple(sorted(_pairs(labels, "source_labels"))),
        None if namespace is None else _text(namespace, "source_namespace"),
    )
    return request, count


def _logged(record: Mapping[str, Any]) -> Recorded:
    """A line of an access log. A sidecar logs what its workload receives too; that is not the workload's call."""
    if str(record.get("upstream_cluster") or "").startswith("inbound|"):
        raise _Skip("received by the workload, not sent by it")
    if not record.get("authority") or not record.get("path") or not record.get("method"):
        raise _Skip("not HTTP: no method, path or authority")
    authority = _text(record["authority"], "authority")
    headers = dict(_headers(record.get("headers") or {}))
    for key, name in (("user_agent", "user-agent"), ("x_forwarded_for", "x-forwarded-for")):
        if record.get(key):
            headers.setdefault(name, _text(record[key], key))
    scheme = record.get("scheme") or "http"
    place, host = _dialled(record, authority, scheme)
    if host:
        headers["host"] = host
    url = _url(f"{scheme}://{place}{_text(record['path'], 'path')}")
    return Recorded(_text(record["method"], "method"), url, tuple(sorted(headers.items())))


def _dialled(record: Mapping[str, Any], authority: str, scheme: str) -> tuple[str, str]:
    """The host and port that the caller dialled, and its Host header where that differs."""
    if urlsplit(f"//{authority}").port is not None:
        given = record.get("port")
        own = urlsplit(f"//{authority}").port
        if isinstance(given, int) and given != own:
            return f"{authority.rpartition(':')[0]}:{given}", authority
        return authority, ""
    port = record.get("port") or _port_of(record)
    default = {"http": 80, "https": 443}.get(scheme)
    return (authority, "") if port in (None, default) else (f"{authority}:{port}", authority)


def _port_of(record: Mapping[str, Any]) -> int | None:
    """A sidecar's outbound listener is bound to the address that was dialled; else the cluster names a port."""
    cluster = str(record.get("upstream_cluster") or "").split("|")
    _, _, local = str(record.get("downstream_local_address") or "").rpartition(":")
    if local.isdigit() and 0 < int(local) < 15000:
        return int(local)
    if len(cluster) == 4 and cluster[0] == "outbound" and cluster[1].isdigit():
        return int(cluster[1])
    return None


# Fields -------------------------------------------------------------------------------------------------------------


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} {value!r} is no text")
    return value


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an absolute http or https URL")
    _ = parts.port  # raises ValueError when it is no number
    return url


def _headers(given: Any) -> Pairs:
    """An object, or HAR's list of names and values; HTTP/2's pseudo headers are in the URL already."""
    if isinstance(given, list):
        given = _joined(item for item in given if isinstance(item, dict) and isinstance(item.get("name"), str))
    return tuple(sorted(pair for pair in _pairs(given, "headers") if not pair[0].startswith(":")))


def _joined(named: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Several lines of one name as the one value that rules compare, joined as a cookie's or any other header's are."""
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for item in named:
        value, name = item.get("value", ""), spelled.setdefault(item["name"].lower(), item["name"])
        between = "; " if name.lower() == "cookie" else ","
        found[name] = f"{found[name]}{between}{value}" if name in found else value
    return found


def _pairs(given: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(given, dict):
        raise ValueError(f"{name} are no object")
    for key, value in given.items():
        if not isinstance(value, str | int | float):
            raise ValueError(f"{name}: the value of {key} is no text")
        text = str(value)
        if not (key.isascii() and text.encode("latin-1", "ignore").decode("latin-1") == text):
            raise ValueError(f"{name}: {key} cannot be sent in a header")
        yield key, text
