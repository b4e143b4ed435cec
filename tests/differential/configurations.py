"""Random Istio configurations, each a small world of its own, as plain objects.

The names of world 7 end in ``-w7``, so that hundreds of worlds fit into one proxy: services ``a`` (port 80), ``b`` (80
and 8080), ``c`` (8080 only) in the namespace ``ns``, the ServiceEntries ``api`` and ``*.any`` below ``example.com``,
and a host that only VirtualServices know.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LABELS", "World", "world"]

LABELS = {"app": "web", "version": "v1"}
PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/A/B", "/foo", "/foo/bar", "/foo/bar/baz", "/Foo", "/v1/items/7", "/x-y_z"]
PREFIXES = [*PATHS, "", "/fo", "/v"]
REGEXES = ["/a.*", "/[a-f]+", "/(a|foo)(/.*)?", ".*", "/v\\d+/.*", "/foo/(bar|baz).*", "/[^/]*", "(?i)/foo.*", "/a|/b"]
VALUES = ["1", "2", "12", "abc", "Abc", "a,b", ""]
VALUE_PREFIXES = ["1", "a", "A", "ab"]
VALUE_REGEXES = ["\\d+", "[a-c]*", ".*", "a,b", "(?i)abc", ".+"]
NAMES = ["x-one", "X-Two", "x-three"]
QUERY_NAMES = ["q", "Q", "r"]
TEXTS = [
    *("1", "value", "%REQ(x-one)%", "%%", "a %REQ(:path)% b", "%REQ(x-none)%", "%REQ(x-none?x-one)%", "%REQ(x-one):2%"),
    *("%ROUTE_NAME%", "%REQ(:authority)%-%REQ(:method)%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "%PATH(NQ)%"),
    *("%QUERY_PARAM(q)%", "%RESP(x-base)%", "%RESPONSE_CODE%", "%UPSTREAM_CLUSTER%", "%REQ(X-TWO?:path)%"),
]
OP_NAMES = ["x-one", "X-Two", "x-new", "x-base", "x-up", "X-Other"]


@dataclass
class World:
    """One configuration and who calls.

    Attributes:
        number: Which.
        namespace: Of the caller.
        objects: Istio and Kubernetes objects.
        registry_only: Whether unknown hosts are refused.
    """

    number: int
    namespace: str
    objects: list[dict[str, Any]] = field(default_factory=list)
    registry_only: bool = False

    def hosts(self) -> list[tuple[str, list[int]]]:
        """Full names that a caller may use, each with the ports that exist."""
        n, svc = self.number, f"ns-w{self.number}.svc.cluster.local"
        return [
            (f"a-w{n}.{svc}", [80]),
            (f"b-w{n}.{svc}", [80, 8080]),
            (f"c-w{n}.{svc}", [8080]),
            (f"api-w{n}.example.com", [80]),
            (f"x.any-w{n}.example.com", [80]),
            (f"y.x.any-w{n}.example.com", [80]),
            (f"free-w{n}.example.com", [80]),
        ]

    def virtual_services(self) -> list[dict[str, Any]]:
        """The objects that have rules."""
        return [value for value in self.objects if value["kind"] == "VirtualService"]


def world(rng: random.Random, number: int, ports: list[int]) -> World:
    """A random world whose endpoints are the upstream's ``ports``."""
    made = World(number, f"ns-w{number}" if rng.random() < 0.9 else "elsewhere", registry_only=rng.random() < 0.3)
    made.objects.extend(_fixed(number, ports))
    made.objects.extend(_destination_rules(rng, number))
    count = rng.choice([1, 1, 1, 2, 3])
    made.objects.extend(_virtual_service(rng, number, index) for index in range(count))
    if rng.random() < 0.3:
        made.objects.append(_delegate(rng, number))
    return made


def _fixed(n: int, ports: list[int]) -> list[dict[str, Any]]:
    objects = []
    for name, numbers, first, versions in (("a", [80], 0, 3), ("b", [80, 8080], 3, 3), ("c", [8080], 6, 2)):
        objects.append(_service(f"{name}-w{n}", n, numbers))
        objects.extend(
            _slice(f"{name}-w{n}", n, f"v{version + 1}", numbers, ports[first + version]) for version in range(versions)
        )
    entry = {"hosts": [f"api-w{n}.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    entry |= {"resolution": "STATIC", "location": "MESH_EXTERNAL"}
    entry["endpoints"] = [{"address": "127.0.0.1", "ports": {"http": ports[8]}, "labels": {"version": "v1"}}]
    objects.append(_object("ServiceEntry", f"api-w{n}", n, entry))
    wild = {"hosts": [f"*.any-w{n}.example.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
    objects.append(_object("ServiceEntry", f"wild-w{n}", n, {**wild, "resolution": "NONE"}))
    return objects


def _object(kind: str, name: str, n: int, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": f"ns-w{n}"}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _service(name: str, n: int, numbers: list[int]) -> dict[str, Any]:
    ports = [{"name": f"http-{number}", "port": number} for number in numbers]
    spec = {"ports": ports, "selector": {"app": name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": f"ns-w{n}"}, "spec": spec}


def _slice(name: str, n: int, version: str, numbers: list[int], port: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{version}",
            "namespace": f"ns-w{n}",
            "labels": {"kubernetes.io/service-name": name, "version": version},
        },
        "addressType": "IPv4",
        "ports": [{"name": f"http-{number}", "port": port} for number in numbers],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }


def _destination_rules(rng: random.Random, n: int) -> list[dict[str, Any]]:
    found = []
    for name in ("a", "b", "c"):
        if rng.random() < 0.85:
            subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
            spec: dict[str, Any] = {"host": f"{name}-w{n}", "subsets": subsets}
            if rng.random() < 0.3:
                simple = rng.choice(["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST"])
                spec["trafficPolicy"] = {"loadBalancer": {"simple": simple}}
            found.append(_object("DestinationRule", f"{name}-w{n}", n, spec))
    return found


def _virtual_service(rng: random.Random, n: int, index: int) -> dict[str, Any]:
    wildcard = [f"*.any-w{n}.example.com", f"x.any-w{n}.example.com"]
    single = [
        f"a-w{n}",
        f"a-w{n}.ns-w{n}.svc.cluster.local",
        f"b-w{n}",
        f"c-w{n}",
        f"api-w{n}.example.com",
        f"free-w{n}.example.com",
    ]
    hosts = [rng.choice([f"a-w{n}", f"b-w{n}", *single, *wildcard])]
    if rng.random() < 0.3:
        other = rng.choice([name for name in single if name.split(".")[0] != hosts[0].split(".")[0]])
        hosts.append(other)
    spec = {"hosts": hosts, "http": [_rule(rng, n) for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))]}
    return _object("VirtualService", f"vs-{index}-w{n}", n, spec)


def _delegate(rng: random.Random, n: int) -> dict[str, Any]:
    return _object("VirtualService", f"delegate-w{n}", n, {"http": [_rule(rng, n, root=False) for _ in range(2)]})


def _rule(rng: random.Random, n: int, root: bool = True) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if rng.random() < 0.5:
        rule["name"] = rng.choice(["one", "two", "canary"])
    if rng.random() < 0.8:
        rule["match"] = [_match(rng, n) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    kind = rng.random()
    if root and kind < 0.08:
        return {**rule, "delegate": {"name": f"delegate-w{n}"}}
    if kind < 0.2:
        rule["redirect"] = _redirect(rng, rule)
    elif kind < 0.3:
        rule["directResponse"] = _direct_response(rng)
    else:
        _forward(rng, n, rule)
    if rng.random() < 0.08:
        rule["corsPolicy"] = _cors(rng)
    if rng.random() < 0.4:
        rule["headers"] = _headers(rng, authority="rewrite" not in rule or "authority" not in rule["rewrite"])
    return rule


# Conditions -----------------------------------------------------------------------------------------------------------


def _match(rng: random.Random, n: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.75:
        found["uri"] = _text(rng, PATHS, PREFIXES, REGEXES)
        if rng.random() < 0.2:
            found["ignoreUriCase"] = True
    for chance, write in _CONDITIONS:
        if rng.random() < chance:
            write(rng, n, found)
    return found or {"uri": {"prefix": "/"}}


def _text(rng: random.Random, exact: list[str], prefix: list[str], regex: list[str]) -> dict[str, str]:
    kind = rng.choice(["exact", "prefix", "prefix", "regex"])
    return {kind: rng.choice({"exact": exact, "prefix": prefix, "regex": regex}[kind])}


def _value(rng: random.Random) -> dict[str, str]:
    return {} if rng.random() < 0.2 else _text(rng, VALUES, VALUE_PREFIXES, VALUE_REGEXES)


def _headers_match(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    names = [*NAMES, ":path", ":method", ":authority", "content-type"]
    found["headers"] = {rng.choice(names): _value(rng) for _ in range(rng.choice([1, 1, 2]))}


def _without(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    found["withoutHeaders"] = {rng.choice(NAMES): rng.choice([_value(rng), {"regex": "*"}])}


def _query(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    found["queryParams"] = {rng.choice(QUERY_NAMES): _value(rng) for _ in range(rng.choice([1, 1, 2]))}


def _method(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    found["method"] = _text(rng, ["GET", "POST", "get"], ["G", "P", "DE"], ["GET|HEAD", "P.*"])


def _scheme(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    found["scheme"] = rng.choice([{"exact": "http"}, {"exact": "https"}, {"prefix": "http"}])


def _authority(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    choices = [{"prefix": f"a-w{n}"}, {"exact": f"a-w{n}.ns-w{n}.svc.cluster.local"}, {"exact": f"b-w{n}:80"}]
    found["authority"] = rng.choice([*choices, {"regex": ".*:80"}, {"prefix": "x."}, {"exact": f"A-w{n}.ns-w{n}"}])


def _static(rng: random.Random, n: int, found: dict[str, Any]) -> None:
    found |= rng.choice(
        [
            {"port": 80},
            {"port": 8080},
            {"sourceLabels": {"app": "web"}},
            {"sourceLabels": {"app": "other"}},
            {"sourceNamespace": f"ns-w{n}"},
            {"gateways": ["mesh"]},
            {"gateways": ["some-gateway"]},
        ]
    )


_CONDITIONS = [
    (0.3, _headers_match),
    (0.15, _without),
    (0.2, _query),
    (0.15, _method),
    (0.05, _scheme),
    (0.1, _authority),
    (0.15, _static),
]

# Actions --------------------------------------------------------------------------------------------------------------


def _destination(rng: random.Random, n: int) -> dict[str, Any]:
    host = rng.choice([f"a-w{n}", f"a-w{n}", f"b-w{n}", f"c-w{n}", f"api-w{n}.example.com", f"nowhere-w{n}"])
    found: dict[str, Any] = {"host": host}
    if rng.random() < 0.6 and not host.startswith("api"):
        found["subset"] = rng.choice(["v1", "v2", "v1", "v2", "v9"])
    if rng.random() < 0.2:
        found["port"] = {"number": rng.choice([80, 8080])}
    return found


def _forward(rng: random.Random, n: int, rule: dict[str, Any]) -> None:
    count = rng.choice([1, 1, 1, 2, 3])
    rule["route"] = [{"destination": _destination(rng, n)} for _ in range(count)]
    if count > 1:
        for entry in rule["route"]:
            entry["weight"] = rng.choice([0, 1, 50, 99])
        rule["route"][0]["weight"] = 10
    if rng.random() < 0.35:
        rule["rewrite"] = _rewrite(rng)
    for entry in rule["route"]:
        if rng.random() < 0.2:
            entry["headers"] = _headers(rng, authority=True)
    if rng.random() < 0.3:
        rule["timeout"] = rng.choice(["11s", "20s", "15.5s", "61s"])
    if rng.random() < 0.3:
        rule["retries"] = _retries(rng)
    if rng.random() < 0.15:
        rule["fault"] = _fault(rng)
    if rng.random() < 0.1:
        rule["mirror"] = {"host": f"a-w{n}"}


def _rewrite(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kind = rng.random()
    if kind < 0.5:
        found["uri"] = rng.choice(["/", "/new", "/new/", "/a/b/c"])
    elif kind < 0.8:
        match, rewrite = rng.choice(
            [("^/([^/]+)/(.*)$", "/\\2/\\1"), ("/", "//"), ("a", "b"), ("o+", "0"), ("x", "\\0\\0")]
        )
        found["uriRegexRewrite"] = {"match": match, "rewrite": rewrite}
    if not found or rng.random() < 0.3:
        found["authority"] = rng.choice(["other.example.com", "other.example.com:8080"])
    return found


def _retries(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"attempts": rng.choice([0, 1, 3])}
    if found["attempts"]:
        if rng.random() < 0.5:
            found["perTryTimeout"] = rng.choice(["10.3s", "12s", "30s"])
        if rng.random() < 0.5:
            found["retryOn"] = rng.choice(["5xx", "gateway-error,connect-failure", "503,reset", "unavailable"])
    return found


def _fault(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    share = {"value": rng.choice([100, 100, 100, 0])}
    if rng.random() < 0.7:
        status = rng.choice([{"httpStatus": rng.choice([418, 503, 200, 404])}, {"grpcStatus": "UNAVAILABLE"}])
        found["abort"] = {**status, "percentage": share}
    if not found or rng.random() < 0.3:
        found["delay"] = {"fixedDelay": "0.001s", "percentage": share}
    return found


def _redirect(rng: random.Random, rule: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    prefixes = all("prefix" in match.get("uri", {"prefix": "/"}) for match in rule.get("match", []))
    kind = rng.random()
    if kind < 0.4:
        found["uri"] = rng.choice(["/moved", "/moved?x=1", "/"])
    elif kind < 0.6 and prefixes:
        found["prefixRewrite"] = rng.choice(["/p", "/"])
    if rng.random() < 0.5:
        found["authority"] = rng.choice(["new.example.com", "new.example.com:81"])
    if rng.random() < 0.4:
        found |= rng.choice(
            [{"port": 80}, {"port": 443}, {"port": 8443}]
            + [{"derivePort": kind} for kind in ("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")]
        )
        if "authority" in found:  # a second port would follow the first
            found["authority"] = "new.example.com"
    if rng.random() < 0.4:
        found["scheme"] = rng.choice(["http", "https"])
    if rng.random() < 0.4:
        found["redirectCode"] = rng.choice([301, 302, 303, 307, 308])
    return found if set(found) - {"redirectCode"} else {**found, "uri": "/moved"}


def _direct_response(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"status": rng.choice([200, 204, 404, 503, 418])}
    if found["status"] != 204 and rng.random() < 0.7:
        found["body"] = {"string": rng.choice(["hello", "", '{"a": 1}'])}
    return found


def _cors(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"allowOrigins": [rng.choice([{"exact": "https://a.example"}, {"prefix": "https://"}])]}
    for name, values in (
        ("allowMethods", [["GET"], ["GET", "POST"]]),
        ("allowHeaders", [["x-one"], ["*"]]),
        ("exposeHeaders", [["x-up"]]),
        ("maxAge", ["24h", "1s"]),
        ("allowCredentials", [True, False]),
        ("unmatchedPreflights", ["FORWARD", "IGNORE"]),
    ):
        if rng.random() < 0.4:
            found[name] = rng.choice(values)
    return found


def _headers(rng: random.Random, authority: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side in ("request", "response"):
        if rng.random() < 0.7:
            found[side] = _operations(rng)
    if authority and rng.random() < 0.15:
        found.setdefault("request", {}).setdefault("set", {})[rng.choice(["Host", ":authority"])] = "set.example.com"
    return found


def _operations(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.6:
        found["set"] = {rng.choice(OP_NAMES): rng.choice(TEXTS) for _ in range(rng.choice([1, 2]))}
    if rng.random() < 0.4:
        found["add"] = {rng.choice(OP_NAMES): rng.choice(TEXTS) for _ in range(rng.choice([1, 2]))}
    if rng.random() < 0.4:
        found["remove"] = rng.sample(OP_NAMES, rng.choice([1, 2]))
    return found
