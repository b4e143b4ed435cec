"""Random requests against a random world, most of them close to what some rule asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.differential.configurations import NAMES, PATHS, QUERY_NAMES, VALUES, World

__all__ = ["Asked", "asked"]

PROXYS = [
    ("x-envoy-max-retries", "3"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-upstream-rq-timeout-ms", "13000"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "10100"),
    ("x-envoy-retriable-status-codes", "404"),
    ("x-envoy-retriable-header-names", "x-one"),
    ("x-envoy-expected-rq-timeout-ms", "1234"),
    ("x-envoy-attempt-count", "7"),
    ("x-envoy-original-path", "/was"),
    ("x-envoy-original-host", "was.example.com"),
    ("x-envoy-decorator-operation", "op"),
    ("x-request-id", "1-2-3"),
    ("x-forwarded-host", "front.example.com"),
    ("grpc-timeout", "15S"),
    ("te", "trailers"),
    ("user-agent", "test"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
"""Headers that proxies read, write or take away."""


@dataclass
class Asked:
    """A request: the Host header is ``authority``, ``port`` is the service port that was dialled."""

    method: str
    authority: str
    port: int
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """All header lines, Host first."""
        return [("Host", self.authority), *self.headers]


def asked(rng: random.Random, world: World) -> Asked:
    """A request that may or may not meet the conditions of one of the world's rules."""
    wanted = _wanted(rng, world)
    host, ports = _host(rng, world, wanted.pop("hosts", None))
    path = wanted.get("path") or rng.choice([*PATHS, *PATHS, "/other", "/foo/bar%20baz", "/a;x=1"])
    if rng.random() < 0.08:
        path = _abnormal(rng, path)
    query = "&".join(wanted.get("query", [])) if rng.random() < 0.9 else ""
    if rng.random() < 0.25:
        extra = f"{rng.choice(QUERY_NAMES)}{rng.choice(['', '=', '=1', '=2', '=abc', '=1=2', '=%31'])}"
        query = f"{query}&{extra}" if query else extra
    headers = list(wanted.get("headers", []))
    headers.extend((rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.choice([0, 0, 1, 2])))
    if rng.random() < 0.06 and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(
            ("content-type", rng.choice(["application/grpc", "application/grpc+proto", "application/grpc-web"]))
        )
    if any("corsPolicy" in rule for rule in wanted.get("rules", ())) or rng.random() < 0.02:
        headers.append(("Origin", rng.choice(["https://a.example", "https://b.example", "http://a.example"])))
        if rng.random() < 0.6:
            wanted["method"] = "OPTIONS"
            headers.append(("Access-Control-Request-Method", rng.choice(["GET", "PUT"])))
            if rng.random() < 0.5:
                headers.append(("access-control-request-headers", "x-one,x-four"))
    if rng.random() < 0.06:
        headers.append(rng.choice(PROXYS))
    rng.shuffle(headers)
    method = wanted.get("method") or rng.choice(["GET", "GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH"])
    port = rng.choice(ports) if rng.random() < 0.95 else rng.choice([80, 8080])
    return Asked(method, _spelled(rng, world, host, port), port, path + (f"?{query}" if query else ""), headers)


def _abnormal(rng: random.Random, path: str) -> str:
    """Another spelling, which a sidecar makes normal before it looks at it."""
    return rng.choice(
        [f"/x/..{path}", f"/.{path}", path.replace("a", "%61"), f"{path}/../z", path.replace("/", "//", 1)]
    )


def _host(rng: random.Random, world: World, hosts: list[str] | None) -> tuple[str, list[int]]:
    known = world.hosts()
    if rng.random() < 0.03:
        return "unknown.example.org", [80]
    if hosts and rng.random() < 0.85:
        pattern = rng.choice(hosts).removeprefix("*.")
        close = [pair for pair in known if pattern in pair[0]]
        if close:
            return rng.choice(close)
    return rng.choice(known)


def _spelled(rng: random.Random, world: World, host: str, port: int) -> str:
    """One of the ways to write a host."""
    short = host.removesuffix(".svc.cluster.local")
    if short != host and rng.random() < 0.5:
        own = [short.partition(".")[0]] if world.namespace == f"ns-w{world.number}" else []
        host = rng.choice([short, f"{short}.svc", *own, *own])
    if rng.random() < 0.05:
        host = rng.choice([host.upper(), host.title()])
    if host.endswith(".local") and rng.random() < 0.05:
        host += "."
    if rng.random() < 0.3:
        host = f"{host}:{port if rng.random() < 0.9 else 9999}"
    return host


def _wanted(rng: random.Random, world: World) -> dict[str, Any]:
    """What it takes to meet one match of one rule, mostly."""
    service = rng.choice(world.virtual_services())
    rule = rng.choice(service["spec"]["http"])
    found: dict[str, Any] = {"hosts": service["spec"].get("hosts"), "headers": [], "query": [], "rules": [rule]}
    matches = rule.get("match")
    if not matches or rng.random() < 0.1:
        return found
    match = rng.choice(matches)
    if "uri" in match and rng.random() < 0.95:
        found["path"] = _path(rng, match["uri"], match.get("ignoreUriCase", False))
    if "method" in match and rng.random() < 0.9:
        found["method"] = _meeting(rng, match["method"]).upper()
    for name, text in match.get("headers", {}).items():
        if not name.startswith(":") and rng.random() < 0.9:
            found["headers"].append((rng.choice([name, name.upper()]), _meeting(rng, text)))
    for name, text in match.get("withoutHeaders", {}).items():
        if rng.random() < 0.2:
            found["headers"].append((name, _meeting(rng, text)))
    for name, text in match.get("queryParams", {}).items():
        if rng.random() < 0.9:
            found["query"].append(f"{name}={_meeting(rng, text)}")
    return found


_SAMPLES = {
    "/a.*": ["/a", "/abc/d"],
    "/[a-f]+": ["/abc", "/a"],
    "/(a|foo)(/.*)?": ["/a", "/foo/", "/foo/x"],
    ".*": ["/", "/z"],
    "/v\\d+/.*": ["/v1/", "/v22/x"],
    "/foo/(bar|baz).*": ["/foo/bar", "/foo/bazz"],
    "/[^/]*": ["/", "/zz"],
    "(?i)/foo.*": ["/FOO/x", "/foo"],
    "/a|/b": ["/a", "/b"],
    "\\d+": ["1", "12"],
    "[a-c]*": ["", "abc"],
    "a,b": ["a,b"],
    "(?i)abc": ["ABC", "abc"],
    ".+": ["x", "1"],
    "GET|HEAD": ["GET", "HEAD"],
    "P.*": ["POST", "PUT", "PATCH"],
    "*": ["1", ""],
}


def _meeting(rng: random.Random, text: dict[str, str]) -> str:
    if "exact" in text:
        return text["exact"]
    if "prefix" in text:
        return text["prefix"] + rng.choice(
            {"G": ["ET"], "P": ["OST", "UT"], "DE": ["LETE"]}.get(text["prefix"], ["", "z"])
        )
    return rng.choice(_SAMPLES[text["regex"]]) if "regex" in text else rng.choice(["1", "", "abc"])


def _path(rng: random.Random, text: dict[str, str], ignore_case: bool) -> str:
    if "prefix" in text:
        path = text["prefix"] + rng.choice(["", "", "/", "/more", "more", "/b/c"])
    else:
        path = _meeting(rng, text) + (rng.choice(["", "/", "x"]) if rng.random() < 0.1 else "")
    if ignore_case or rng.random() < 0.05:
        path = path.swapcase()
    return path if path.startswith("/") else f"/{path}"
