"""An API server on loopback: HTTP/1.1, discovery, pages, watches in chunks, tables, tokens - and its faults."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.kubernetes.cluster import Change, Cluster, Refused, Selection, Type

_REASONS = {200: "OK", 201: "Created", 401: "Unauthorized", 410: "Gone", 500: "Internal Server Error"}


class Watch:
    """One watch that runs: events are put into its queue, raw bytes go out as they are."""

    def __init__(self, of: Type, selection: Selection, connection: Connection) -> None:
        self.type, self.selection, self.connection = of, selection, connection
        self.cluster = connection.server.cluster
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def told(self, change: Change) -> None:
        if change.type == self.type and (event := change.seen_by(self.selection)):
            self.queue.put_nowait(self.connection.server.line(event, self))


class Server:
    """An API server.

    Args:
        cluster: What it stores.
        tokens: Bearer tokens that are let in; None lets everybody in.
        tls: Context of a TLS server.
    """

    def __init__(
        self, cluster: Cluster | None = None, tokens: set[str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.cluster = cluster or Cluster()
        self.tokens, self.tls = tokens, tls
        self.requests: list[str] = []
        self.watches: list[Watch] = []
        self.connections: set[Connection] = set()
        self.bookmarks = 60.0
        self.mute = False
        self.gone_as_status = False
        self.answers: list[tuple[Callable[[str], bool], Refused]] = []
        self.forbidden: set[str] = set()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    # From tests -----------------------------------------------------------------------------------------------------

    def do(self, act: Callable[[], Any]) -> Any:
        """Call something in the server's thread."""

        async def run() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def start(self) -> None:
        """Listen, on the same port as before."""

        async def run() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
            self.port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        """Listen no more, and cut every connection."""
        self.do(self._server.close)
        self.cut()

    def close(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.stop()
        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def put(self, *things: dict[str, Any]) -> str:
        return str(self.do(lambda: [self.cluster.put(thing) for thing in things][-1]))

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        self.do(lambda: self.cluster.delete(kind, name, namespace))

    def end_watches(self) -> None:
        """Politely, as after ``timeoutSeconds``."""
        self.do(lambda: [watch.queue.put_nowait(None) for watch in self.watches])

    def cut(self) -> None:
        """Reset every connection."""
        self.do(lambda: [each.writer.transport.abort() for each in self.connections])

    def send(self, raw: bytes, plural: str = "") -> None:
        """These bytes to every watch, or to those of one type."""
        chosen = [watch for watch in self.watches if plural in ("", watch.type.plural)]
        self.do(lambda: [watch.queue.put_nowait(raw) for watch in chosen])

    def answer(self, refusal: Refused, path: str = "", times: int = 1) -> None:
        """Answer the next so many requests whose target holds ``path`` like this."""
        self.do(lambda: self.answers.extend([(lambda target: path in target, refusal)] * times))

    def kubeconfig(self, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None) -> str:
        """A kubeconfig (JSON, which is YAML)."""
        known = {"server": self.url, **(cluster or {})}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": known}],
                "users": [{"name": "test", "user": user or {}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
        )

    # Serving --------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            await connection.serve()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(connection)
            writer.close()

    def line(self, event: dict[str, Any], watch: Watch) -> bytes:
        accept = watch.connection.accept
        thing = event["object"]
        if thing["kind"] != "Status":
            thing = shaped(thing, watch.type, watch.connection.version, accept)
        return json.dumps({"type": event["type"], "object": thing}).encode() + b"\n"


class Connection:
    """One connection, requests one after another."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.accept = self.version = ""

    async def serve(self) -> None:
        while True:
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            self.server.requests.append(f"{method} {target}")
            while self.server.mute:
                await asyncio.sleep(0.02)
            try:
                await self._answer(method, target, headers, body)
            except Refused as refusal:
                await self._send(refusal.code, refusal.status(), refusal.details.get("retryAfterSeconds"))

    async def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        server, cluster = self.server, self.server.cluster
        if server.tokens is not None and headers.get("authorization", "").removeprefix("Bearer ") not in server.tokens:
            raise Refused(401, "Unauthorized", "Unauthorized")
        for each in server.answers:
            if each[0](target):
                server.answers.remove(each)
                raise each[1]
        url = urlsplit(target)
        query, self.accept = dict(parse_qsl(url.query)), headers.get("accept", "")
        parts = [part for part in url.path.split("/") if part]
        if (document := discovery(cluster, parts)) is not None:
            return await self._send(200, document)
        status = len(parts) > 2 and parts[-1] == "status" and method in ("GET", "PATCH")
        of, namespace, name = self._find(parts[:-1] if status else parts)
        if of.plural in server.forbidden or (status and f"{of.plural}/status" in server.forbidden):
            raise Refused(403, "Forbidden", f'{of.plural} is forbidden: User "test" cannot list resource')
        if method == "POST":
            thing = {"apiVersion": f"{of.group}/{self.version}".lstrip("/"), "kind": of.kind, **json.loads(body)}
            if namespace:
                thing["metadata"]["namespace"] = namespace
            cluster.put(thing)
            return await self._send(201, cluster.get(of, namespace, thing["metadata"]["name"]))
        if method == "PATCH":
            if headers.get("content-type") != "application/merge-patch+json":
                raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            if not status:
                raise Refused(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            changed = cluster.patch_status(of, namespace, name, json.loads(body))
            return await self._send(200, shaped(changed, of, self.version, self.accept))
        if method == "DELETE":
            return await self._send(200, cluster.delete(of.kind, name, namespace))
        selection = Selection(namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if query.get("watch") in ("true", "1"):
            return await self._watch(of, selection, query)
        if name:
            return await self._send(200, shaped(cluster.get(of, namespace, name), of, self.version, self.accept))
        limit, token = int(query.get("limit", 0)), query.get("continue", "")
        page = cluster.page(of, selection, limit, token, query.get("resourceVersion", ""))
        return await self._send(200, listed(page, of, self.version, self.accept))

    def _find(self, parts: list[str]) -> tuple[Type, str, str]:
        group, rest = ("", parts[1:]) if parts[:1] == ["api"] else (parts[1] if len(parts) > 1 else "", parts[2:])
        if not rest or parts[0] not in ("api", "apis"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        self.version, namespace, *_ = rest[0], "", None
        if len(rest) > 3 and rest[1] == "namespaces":
            namespace, rest = rest[2], [rest[0], *rest[3:]]
        if len(rest) < 2:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        of = self.server.cluster.find(group, rest[1])
        if self.version not in of.versions:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return of, namespace, rest[2] if len(rest) > 2 else ""

    async def _send(self, code: int, value: Any, retry_after: float | None = None) -> None:
        raw = json.dumps(value).encode() + b"\n"
        after = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        head = f"HTTP/1.1 {code} {_REASONS.get(code, 'Status')}\r\nContent-Type: application/json\r\n{after}"
        self.writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        await self.writer.drain()

    async def _watch(self, of: Type, selection: Selection, query: dict[str, str]) -> None:
        watch = Watch(of, selection, self)
        version, send = query.get("resourceVersion", ""), query.get("sendInitialEvents") == "true"
        events: list[dict[str, Any]] = []
        try:
            events.extend(self.server.cluster.initial(of, selection, version, send))
        except Refused as refusal:
            if refusal.code != 410 or self.server.gone_as_status:
                raise
            events.append({"type": "ERROR", "object": refusal.status()})
        for event in events:
            watch.queue.put_nowait(self.server.line(event, watch))
        if send:
            watch.queue.put_nowait(self._bookmark(watch, {"k8s.io/initial-events-end": "true"}))
        if events and events[-1]["type"] == "ERROR":
            watch.queue.put_nowait(None)
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.server.watches.append(watch)
        watch.cluster.listeners.append(watch.told)
        try:
            await self._pour(watch, float(query.get("timeoutSeconds", 1800)), "allowWatchBookmarks" in query)
        finally:
            self.server.watches.remove(watch)
            with suppress(ValueError):
                watch.cluster.listeners.remove(watch.told)

    async def _pour(self, watch: Watch, seconds: float, bookmarks: bool) -> None:
        loop = asyncio.get_running_loop()
        ends, due = loop.time() + seconds, loop.time() + self.server.bookmarks
        while True:
            wait = max(0.0, min(ends, due if bookmarks else ends) - loop.time())
            try:
                raw = await asyncio.wait_for(watch.queue.get(), min(wait, 0.05))
            except TimeoutError:
                raw = b""
                if self.writer.transport.is_closing() or self.reader.at_eof():
                    return None
            while self.server.mute:
                await asyncio.sleep(0.02)
            if loop.time() >= ends:
                raw = None
            elif not raw and bookmarks and loop.time() >= due:
                due, raw = loop.time() + self.server.bookmarks, self._bookmark(watch)
            if raw is None:
                self.writer.write(b"0\r\n\r\n")
                return await self.writer.drain()
            if raw:
                self.writer.write(b"%x\r\n%s\r\n" % (len(raw), raw))
                await self.writer.drain()

    def _bookmark(self, watch: Watch, notes: dict[str, str] | None = None) -> bytes:
        metadata = {"resourceVersion": str(self.server.cluster.version), "creationTimestamp": None}
        thing = {"kind": watch.type.kind, "metadata": {**metadata, **({"annotations": notes} if notes else {})}}
        return self.server.line({"type": "BOOKMARK", "object": thing}, watch)


# Shapes -------------------------------------------------------------------------------------------------------------


def _api_version(of: Type, version: str) -> str:
    return f"{of.group}/{version}" if of.group else version


def shaped(thing: dict[str, Any], of: Type, version: str, accept: str) -> dict[str, Any]:
    """One object in the form that was asked for."""
    if "as=PartialObjectMetadata" in accept:
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": thing["metadata"]}
    if "as=Table" in accept:
        return table([thing], {"resourceVersion": thing["metadata"]["resourceVersion"]})
    return {**thing, "apiVersion": _api_version(of, version), "kind": of.kind}


def listed(page: dict[str, Any], of: Type, version: str, accept: str) -> dict[str, Any]:
    """A list in the form that was asked for; objects of Kubernetes' own kinds do not name their kind in it."""
    if "as=PartialObjectMetadataList" in accept:
        items = [{"metadata": each["metadata"]} for each in page["items"]]
        return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", **page, "items": items}
    if "as=Table" in accept:
        return table(page["items"], page["metadata"])
    own = {"apiVersion", "kind"} if of.group in ("", "discovery.k8s.io", "apps") else set[str]()
    items = [{name: part for name, part in each.items() if name not in own} for each in page["items"]]
    return {"kind": f"{of.kind}List", "apiVersion": _api_version(of, version), **page, "items": items or None}


def table(things: list[dict[str, Any]], metadata: dict[str, Any]) -> dict[str, Any]:
    columns = [
        {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
        {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
    ]
    rows = [
        {
            "cells": [each["metadata"].get("name", ""), each["metadata"].get("creationTimestamp")],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": each["metadata"]},
        }
        for each in things
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def discovery(cluster: Cluster, parts: list[str]) -> dict[str, Any] | None:
    """The documents of discovery; None for any other path."""
    if parts == ["version"]:
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        groups: dict[str, dict[str, None]] = {}
        for each in cluster.types:
            groups.setdefault(each.group, {}).update(dict.fromkeys(each.versions))
        rows = [_group(name, tuple(versions)) for name, versions in groups.items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": rows}
    if len(parts) == 2 and parts[0] == "api":
        return _resources(cluster, "", parts[1])
    if len(parts) == 3 and parts[0] == "apis":
        return _resources(cluster, parts[1], parts[2])
    return None


def _group(name: str, versions: tuple[str, ...]) -> dict[str, Any]:
    rows = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": rows, "preferredVersion": rows[0]}


def _resources(cluster: Cluster, group: str, version: str) -> dict[str, Any]:
    rows = []
    for each in cluster.types:
        if each.group == group and version in each.versions:
            row = {
                "name": each.plural,
                "singularName": each.kind.lower(),
                "namespaced": each.namespaced,
                "kind": each.kind,
            }
            rows.append({**row, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
            rows.append(
                {**row, "name": f"{each.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}
            )
    if not rows:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows}
