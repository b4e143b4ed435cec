"""Random small meshes: Istio objects of every shape that decides where a request goes, and requests to ask about."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from meshlib.config.compile import Universe
from meshlib.config.resources import load_dict
from meshlib.config.validation import validate
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.model.endpoint import Locality
from meshlib.model.problem import Level
from meshlib.model.snapshot import Client, Snapshot

DOMAIN = "default.svc.cluster.local"


def some(values):
    return st.sampled_from(values)


def maybe(strategy):
    """A dict of the strategy, or an empty one."""
    return st.one_of(st.just({}), strategy)


def merged(*parts):
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


# Rules --------------------------------------------------------------------------------------------------------------

PATHS = ["/", "/a", "/A", "/a/b", "/b"]
TEXT = st.one_of(
    st.builds(lambda text: {"exact": text}, some(["1", "2", "svc"])),
    st.builds(lambda text: {"prefix": text}, some(["1", "s"])),
    st.builds(lambda text: {"regex": text}, some(["1|2", "s.*", ".+"])),
)
CONDITION = st.one_of(
    st.builds(lambda kind, path: {"uri": {kind: path}}, some(["exact", "prefix"]), some(PATHS)),
    st.builds(lambda path: {"uri": {"prefix": path}, "ignoreUriCase": True}, some(["/a", "/A/"])),
    st.builds(lambda path: {"uri": {"regex": f"{path}.*"}}, some(PATHS)),
    st.builds(lambda text: {"headers": {"x-one": text}}, st.one_of(TEXT, st.just({}))),
    st.builds(lambda text: {"withoutHeaders": {"x-one": text}}, st.one_of(TEXT, st.just({}))),
    st.builds(lambda text: {"queryParams": {"q": text}}, TEXT),
    st.builds(lambda text: {"authority": text}, TEXT),
    st.builds(lambda method: {"method": {"exact": method}}, some(["GET", "POST"])),
    st.builds(lambda scheme: {"scheme": {"exact": scheme}}, some(["http", "https"])),
    st.builds(lambda label: {"sourceLabels": {"app": label}}, some(["web", "job"])),
    st.builds(lambda space: {"sourceNamespace": space}, some(["default", "prod"])),
    st.builds(lambda port: {"port": port}, some([80, 81])),
    st.just({"gateways": ["mesh"]}),
    st.just({"gateways": ["edge"]}),
)
MATCH = merged(CONDITION, maybe(CONDITION))
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "request": some(
            [
                {"set": {"x-one": "set"}},
                {"add": {"x-two": "%REQ(x-one)%"}, "remove": ["x-one"]},
                {"set": {"Host": "elsewhere"}},
            ]
        ),
        "response": some([{"set": {"server": "us"}}, {"remove": ["server"]}]),
    },
)
DESTINATION = st.builds(
    lambda to, weight, headers: {**to, "weight": weight, **headers},
    st.one_of(
        st.builds(lambda subset: {"destination": {"host": "svc", "subset": subset}}, some(["v1", "v2", "v9"])),
        some([{"destination": {"host": "svc", "port": {"number": 80}}}, {"destination": {"host": "other"}}]),
    ),
    st.integers(0, 3),
    maybe(st.builds(lambda headers: {"headers": headers}, HEADERS)),
)


def _weighted(entries):
    if len(entries) > 1 and not any(entry["weight"] for entry in entries):
        entries = [{**entries[0], "weight": 1}, *entries[1:]]
    return {"route": entries}


SHARE = some([0, 40, 100]).map(lambda value: {"percentage": {"value": value}})
FAULT = st.fixed_dictionaries(
    {},
    optional={
        "delay": merged(st.just({"fixedDelay": "2s"}), SHARE),
        "abort": merged(some([{"httpStatus": 503}, {"grpcStatus": "UNAVAILABLE"}]), SHARE),
    },
).filter(bool)
ROUTED = merged(
    st.lists(DESTINATION, min_size=1, max_size=3).map(_weighted),
    maybe(
        some([{"uri": "/new"}, {"authority": "new.host"}, {"uriRegexRewrite": {"match": "a", "rewrite": "z"}}]).map(
            lambda rewrite: {"rewrite": rewrite}
        )
    ),
    maybe(some([{"timeout": "2s"}, {"timeout": "0s"}, {"retries": {"attempts": 3}}, {"retries": {"attempts": 0}}])),
    maybe(some([{"mirror": {"host": "other"}}, {"mirrors": [{"destination": {"host": "nobody"}}]}])),
    maybe(st.just({"corsPolicy": {"allowOrigins": [{"exact": "http://here"}], "allowMethods": ["GET"]}})),
)
PREFLIGHT = {"Origin": "http://here", "Access-Control-Request-Method": "GET"}
ACTION = merged(
    st.one_of(
        ROUTED,
        ROUTED,
        some([{"redirect": {"uri": "/moved"}}, {"redirect": {"authority": "x", "redirectCode": 308}}]),
        some([{"directResponse": {"status": 204}}, {"directResponse": {"status": 418, "body": {"string": "tea"}}}]),
    ),
    maybe(st.builds(lambda fault: {"fault": fault}, FAULT)),
    maybe(st.builds(lambda headers: {"headers": headers}, HEADERS)),
)


def rule(action):
    return st.builds(
        lambda matches, what: {**({"match": matches} if matches else {}), **what}, st.lists(MATCH, max_size=2), action
    )


DELEGATE = some([{"delegate": {"name": "lender"}}, {"delegate": {"name": "nobody"}}])
RULES = st.lists(st.one_of(rule(ACTION), rule(ACTION), rule(DELEGATE)), min_size=1, max_size=4)


def virtual_service(name):
    return st.builds(
        lambda hosts, rules, namespace, extra, created: {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{created}T00:00:00Z"},
            "spec": {"hosts": hosts, "http": rules, **extra},
        },
        some([[f"svc.{DOMAIN}"], [f"*.{DOMAIN}"], ["*"], ["*.example.com"], [f"svc.{DOMAIN}", "www.example.com"]]),
        RULES,
        some(["default", "default", "prod"]),
        maybe(some([{"exportTo": ["."]}, {"exportTo": ["*"]}, {"gateways": ["edge"]}, {"gateways": ["edge", "mesh"]}])),
        st.integers(1, 3),
    )


LENDER = st.builds(
    lambda rules: {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "lender", "namespace": "default"},
        "spec": {"http": rules},
    },
    st.lists(rule(ACTION), min_size=1, max_size=2),
)

# Services -----------------------------------------------------------------------------------------------------------

BALANCERS = [
    {"simple": "ROUND_ROBIN"},
    {"simple": "LEAST_REQUEST"},
    {"simple": "RANDOM"},
    {"simple": "PASSTHROUGH"},
    {"consistentHash": {"httpHeaderName": "x-one"}},
    {"consistentHash": {"useSourceIp": True}},
    {"consistentHash": {"httpQueryParameterName": "q", "maglev": {"tableSize": 101}}},
    {"consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}, "ringHash": {"minimumRingSize": 64}}},
]
LOCALITY = some(
    [
        {"localityLbSetting": {"enabled": True}},
        {"localityLbSetting": {"distribute": [{"from": "r1/*", "to": {"r1/*": 70, "r2/*": 30}}]}},
        {"localityLbSetting": {"distribute": [{"from": "r1/*", "to": {"r2/*": 100}}]}},
        {"localityLbSetting": {"failover": [{"from": "r1", "to": "r2"}]}},
    ]
)
POLICY = st.fixed_dictionaries(
    {"outlierDetection": some([{}, {"minHealthPercent": 60}, {"maxEjectionPercent": 100, "consecutive5xxErrors": 1}])},
    optional={
        "loadBalancer": merged(some(BALANCERS), maybe(LOCALITY)),
        "connectionPool": some([{"tcp": {"maxConnections": 5}}, {"http": {"http1MaxPendingRequests": 1}}]),
    },
)


def rule_of_service(policy):
    return st.builds(_rule_of_service, policy, policy)


def _rule_of_service(policy, own):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "svc", "namespace": "default"},
        "spec": {
            "host": "svc",
            **({"trafficPolicy": policy} if policy else {}),
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"}, **({"trafficPolicy": own} if own else {})},
                {"name": "v2", "labels": {"version": "v2"}},
            ],
        },
    }


ENDPOINT = st.tuples(
    some(["v1", "v1", "v2", "v3"]), some(["r1/z1", "r1/z2", "r2/z1"]), some(["ready", "ready", "unready", "leaving"])
)


def _service(name):
    ports = [{"port": 80, "name": "http", "targetPort": 80}, {"port": 81, "name": "http2-more", "targetPort": 81}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": ports},
    }


def _slice(owner, number, version, locality, state):
    region, zone = locality.split("/")
    labels = {
        "kubernetes.io/service-name": owner,
        "version": version,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
    }
    conditions = {
        "ready": {"ready": True},
        "unready": {"ready": False, "terminating": False},
        "leaving": {"ready": False, "terminating": True},
    }[state]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{owner}-{number}", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}, {"name": "http2-more", "port": 81}],
        "endpoints": [{"addresses": [f"10.0.0.{number}"], "conditions": conditions}],
    }


ENTRY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "ServiceEntry",
    "metadata": {"name": "outside", "namespace": "default"},
    "spec": {
        "hosts": ["*.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "NONE",
    },
}


def _mesh(services, lender, rule_of_service, endpoints):
    return [
        _service("svc"),
        _service("other"),
        _slice("other", 99, "v1", "r1/z1", "ready"),
        ENTRY,
        *[_slice("svc", number, *facts) for number, facts in enumerate(endpoints, 1)],
        *services,
        lender,
        rule_of_service,
    ]


MESH = st.builds(
    _mesh,
    st.tuples(virtual_service("one"), virtual_service("two")),
    LENDER,
    rule_of_service(maybe(POLICY)),
    st.lists(ENDPOINT, min_size=1, max_size=5),
)
"""The objects of a mesh, in plain form: everything that decides about a route."""

BALANCED_MESH = st.builds(
    _mesh, st.just(()), st.just(ENTRY), rule_of_service(POLICY), st.lists(ENDPOINT, min_size=2, max_size=5)
)
"""One service without rules, and all that decides about its endpoints."""

CLIENT = st.builds(
    lambda namespace, labels: Client(namespace, labels, Locality("r1", "z1")),
    some(["default", "default", "prod"]),
    some([{}, {"app": "web"}, {"app": "job"}]),
)
REQUEST = st.builds(
    lambda method, scheme, host, port, path, query, headers: request_of(
        method, f"{scheme}://{host}:{port}{path}{query}", headers
    ),
    some(["GET", "POST", "OPTIONS"]),
    some(["http", "http", "https"]),
    some([*[f"svc.{DOMAIN}"] * 5, "svc", "svc.default", "other", "www.example.com", "nowhere"]),
    some([80, 80, 80, 80, 81, 81, 82]),
    some(PATHS),
    some(["", "?q=1", "?q=2"]),
    some([{}, {"x-one": "1"}, {"X-One": "2", "Cookie": "user=joe"}, {"x-request-id": "mine"}, PREFLIGHT]),
)


def universe(objects):
    """Indexed as a feed does it: objects with an error stay out."""
    resources = [resource for each in objects for resource in load_dict(each).resources]
    return Universe([r for r in resources if not any(p.level is Level.ERROR for p in validate(r))])


def snapshot(objects, client):
    return Snapshot(universe(objects).view(client))


def prepared(objects, client):
    return Prepared(snapshot(objects, client), State(), 0.0, random.Random(1))
