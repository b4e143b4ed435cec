"""What is fuzzed: each target takes bytes, and raises only when something is wrong with meshlib."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable

from tests.properties import test_robustness
from tests.transport import test_http2_session, test_reader

from meshlib.config.analyze import analyze
from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.config.resources.base import duration
from meshlib.config.resources.load import load_bytes
from meshlib.config.validation import primitives, validate
from meshlib.dataplane.explain import explain
from meshlib.dataplane.matchers import compile_regex
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.diff.traffic import read_traffic
from meshlib.environment import keywords
from meshlib.errors import ConfigError
from meshlib.model.snapshot import Client, Snapshot

__all__ = ["TARGETS"]

SLOW = 2.0
"""Seconds that a few kilobytes may take at most."""


def yaml(data: bytes) -> None:
    """Files: bytes into objects, and whatever became objects into validation and analysis."""
    loaded = load_bytes(data, "fuzz.yaml")
    problems = [*loaded.problems, *(problem for each in loaded.resources for problem in validate(each))]
    for problem in analyze(loaded.resources, loading=problems):
        str(problem).encode()
        assert problem.line is None or problem.line >= 1


_HEAD = (
    b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n"
    b"  - route: [{destination: {host: a}}]\n"
)


def rules(data: bytes) -> None:
    """What comes after the first lines of a VirtualService."""
    yaml(_HEAD + data)


def jsons(data: bytes) -> None:
    """JSON reads as the YAML that it is."""
    text = data.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return
    load_text(text)


def regexes(data: bytes) -> None:
    """A pattern that validation lets through compiles, and matches in bounded time."""
    pattern, _, text = data.decode("utf-8", "replace").partition("\n")
    if primitives.regex(pattern) is None:
        started = time.perf_counter()
        compile_regex(pattern).fullmatch(text * 100)
        assert time.perf_counter() - started < SLOW


WORLD = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a, "*.example.com"]
  http:
  - match: [{uri: {regex: "/a.*"}, headers: {x: {prefix: a}}, queryParams: {q: {exact: "1"}}}]
    rewrite: {uriRegexRewrite: {match: "/a(.*)", rewrite: "/b\\\\1"}}
    route: [{destination: {host: a}, headers: {request: {set: {x: "%REQ(y)%"}}}}]
  - match: [{uri: {prefix: /b}}]
    redirect: {uri: "/c", derivePort: FROM_REQUEST_PORT}
  - route: [{destination: {host: a}}]
"""
_PREPARED = Prepared(Snapshot(Universe(load_text(WORLD).resources).view(Client())), State(), 0.0, random.Random(1))


def requests(data: bytes) -> None:
    """URLs and headers of requests, as ``explain`` takes them."""
    url, *rest = data.decode("utf-8", "replace").split("\n")
    headers = dict(line.partition(":")[::2] for line in rest)
    try:
        request = request_of("GET", url, headers)
    except ValueError:
        return
    json.dumps(explain(_PREPARED, request).to_dict())


_SYNTAX = (
    "dns_label",
    "fqdn",
    "wildcard_host",
    "sni_host",
    "namespaced_host",
    "trust_domain",
    "unix_path",
    "host_port",
    "ip",
    "subnet",
    "header_name",
    "plain_header_name",
    "header_match_name",
)


def words(data: bytes) -> None:
    """Single words: durations, names, hosts, subnets, header values, the environment."""
    text = data.decode("utf-8", "replace")
    try:
        assert abs(duration(text)) < 1e12
    except ValueError:
        pass
    for name in _SYNTAX:
        getattr(primitives, name)(text)
    primitives.localities(text.split(","))
    primitives.export_to(text.split(","))
    primitives.label_pair(*text.partition("=")[::2])
    try:
        keywords({"MESHLIB_LABELS": text, "MESHLIB_READY_TIMEOUT": text, "MESHLIB_LOCALITY": text})
    except ConfigError:
        pass


def traffic(data: bytes) -> None:
    """Recorded requests: what cannot be read is counted, and what is read can be asked about."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(data)
        file.flush()
        found = read_traffic(file.name)
    for recorded in found.counts:
        try:
            request = request_of(recorded.method, recorded.url, dict(recorded.headers))
        except ValueError:
            continue
        explain(_PREPARED, request)


def responses(data: bytes) -> None:
    """What a server sends is read the same however it is cut, and never in another way than h11 reads it."""
    for method in (b"GET", b"HEAD"):
        test_reader.opinions_agree(data, method, 5)


def frames(data: bytes) -> None:
    """What an HTTP/2 server sends is read or refused however it is cut, and every stream has an end."""
    places = sorted({place % (len(data) + 1) for place in data[:3]})
    test_http2_session.survives(data[3:], [place for place in places if place <= len(data) - 3])


def _drawn(test: Callable[..., None]) -> Callable[[bytes], object]:
    return test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]


TARGETS: dict[str, Callable[[bytes], object]] = {
    "yaml": yaml,
    "rules": rules,
    "json": jsons,
    "regexes": regexes,
    "requests": requests,
    "words": words,
    "traffic": traffic,
    "responses": responses,
    "frames": frames,
    "worlds": _drawn(test_robustness.test_no_world_breaks_compiling_and_no_request_breaks_routing),
    "values": _drawn(test_robustness.test_no_value_breaks_loading),
}
