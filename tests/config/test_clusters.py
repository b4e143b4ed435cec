"""Every field of a DestinationRule and of the mesh's defaults, from YAML to the cluster it makes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshlib.config.compile import Universe
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import State
from meshlib.model.cluster import Discovery, Protocol
from meshlib.model.endpoint import Locality
from meshlib.model.policy import BalancerKind, HashKey, RetryBudget, SlowStart, TcpKeepalive, TlsMode, Tunnel, ZoneAware
from meshlib.model.snapshot import Client
from meshlib.providers import Facts

HOST = "svc.default.svc.cluster.local"


def service(name="svc", ports="[{name: http, port: 80}, {name: grpc, port: 81}, {name: tcp, port: 82}]", rest=""):
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{ports: {ports}{rest}}}"
    )


def rule(policy="", subsets="", host="svc", namespace="default", name="dr", rest="", created=""):
    lines = [
        "apiVersion: networking.istio.io/v1",
        "kind: DestinationRule",
        f"metadata: {{name: {name}, namespace: {namespace}{f', creationTimestamp: {created}' if created else ''}}}",
        f"spec:\n  host: {host}",
    ]
    lines += [f"  trafficPolicy: {policy}"] if policy else []
    lines += [f"  subsets: {subsets}"] if subsets else []
    return "\n".join([*lines, rest])


def view(*texts, mesh=None, client=None):
    loaded = load_text("\n---\n".join(texts))
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    universe = Universe(loaded.resources, mesh=MeshConfig.model_validate(mesh or {}))
    return universe.view(client or Client())


def cluster(policy="", *texts, port=80, subset="", subsets="", mesh=None, client=None, rest=""):
    source = view(service(), rule(policy, subsets, rest=rest), *texts, mesh=mesh, client=client)
    found = source.cluster(f"outbound|{port}|{subset}|{HOST}")
    assert found is not None
    return found


# Load balancing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("{simple: UNSPECIFIED}", "LEAST_REQUEST"),
        ("{simple: LEAST_CONN}", "LEAST_REQUEST"),
        ("{simple: LEAST_REQUEST}", "LEAST_REQUEST"),
        ("{simple: RANDOM}", "RANDOM"),
        ("{simple: ROUND_ROBIN}", "ROUND_ROBIN"),
        ("{simple: PASSTHROUGH}", "PASSTHROUGH"),
        ("{consistentHash: {httpHeaderName: x}}", "RING_HASH"),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 101}}}", "MAGLEV"),
    ],
)
def test_each_algorithm_has_its_own(given, kind):
    found = cluster(f"{{loadBalancer: {given}}}")
    assert found.load_balancer.kind is BalancerKind[kind]
    assert (found.discovery is Discovery.ORIGINAL_DST) is (kind == "PASSTHROUGH")


@pytest.mark.parametrize(
    ("given", "slow_start"),
    [
        ("{warmup: {duration: 60s}}", SlowStart(60.0, 0.1, 1.0)),
        ("{warmup: {duration: 60s, minimumPercent: 25, aggression: 2}}", SlowStart(60.0, 0.25, 2.0)),
        ("{simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 0}}", SlowStart(60.0, 0.0, 1.0)),
        ("{warmupDurationSecs: 30s}", SlowStart(30.0, 0.1, 1.0)),
        ("{simple: RANDOM, warmup: {duration: 60s}}", None),
        ("{simple: ROUND_ROBIN}", None),
    ],
)
def test_warm_up_is_for_round_robin_and_least_request(given, slow_start):
    assert cluster(f"{{loadBalancer: {given}}}").load_balancer.slow_start == slow_start


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("{httpHeaderName: X-User}", HashKey("header", "x-user")),
        ("{useSourceIp: true}", HashKey("source_ip")),
        ("{httpQueryParameterName: user}", HashKey("query", "user")),
        ("{httpCookie: {name: c}}", HashKey("cookie", "c", None, kept=True)),
        ("{httpCookie: {name: c, ttl: 0s, path: /p}}", HashKey("cookie", "c", 0.0, "/p", kept=True)),
        (
            "{httpCookie: {name: c, ttl: 1h, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}}",
            HashKey("cookie", "c", 3600.0, "", (("SameSite", "Strict"), ("Secure", "")), kept=True),
        ),
    ],
)
def test_hash_keys_keep_all_they_are_given(given, key):
    policy = f"{{loadBalancer: {{consistentHash: {given}}}}}"
    assert cluster(policy).load_balancer.hash_keys == (replace(key, kept=False),)
    host = view(service(), rule(policy)).virtual_host("svc", 80)
    assert host.routes[0].action.hash_keys == (key,)
    assert host.routes[0].action.retry.avoid_previous_hosts is False


def test_a_hash_without_a_key_is_random_and_retries_elsewhere():
    policy = "{loadBalancer: {consistentHash: {ringHash: {minimumRingSize: 7}}}}"
    assert cluster(policy).load_balancer.min_ring_size == 7
    action = view(service(), rule(policy)).virtual_host("svc", 80).routes[0].action
    assert (action.hash_keys, action.retry.avoid_previous_hosts) == ((), True)


def test_the_old_ring_size_counts_only_where_no_algorithm_is_chosen():
    assert cluster("{loadBalancer: {consistentHash: {useSourceIp: true}}}").load_balancer.min_ring_size == 1024
    old = cluster("{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9}}}")
    assert old.load_balancer.min_ring_size == 9


HASHES = (
    "{loadBalancer: {consistentHash: {httpHeaderName: host}}, portLevelSettings: [{port: {number: 81}, "
    "loadBalancer: {consistentHash: {httpHeaderName: host-81}}}]}"
)
HASH_SUBSETS = (
    "[{name: own, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: own}}, portLevelSettings: "
    "[{port: {number: 81}, loadBalancer: {consistentHash: {httpHeaderName: own-81}}}]}}, {name: plain}]"
)


@pytest.mark.parametrize(
    ("destination", "key"),
    [
        ("subset: own, port: {number: 81}", "own-81"),
        ("subset: own, port: {number: 80}", "own"),
        ("subset: own", "own"),
        ("subset: plain, port: {number: 81}", "host-81"),
        ("subset: plain", "host"),
        ("port: {number: 81}", "host-81"),
    ],
)
def test_a_rule_hashes_by_port_only_where_it_names_the_port(destination, key):
    rules = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc}\nspec: {hosts: [svc], "
        f"http: [{{route: [{{destination: {{host: svc, {destination}}}}}]}}]}}"
    )
    host = view(service(), rule(HASHES, HASH_SUBSETS), rules).virtual_host("svc", 81)
    assert [found.name for found in host.routes[0].action.hash_keys] == [key]


@pytest.mark.parametrize(
    ("given", "zone_aware"),
    [
        ("{zoneAwareLbSetting: {}}", ZoneAware(6)),
        ("{zoneAwareLbSetting: {minClusterSize: 2}}", ZoneAware(2)),
        ("{zoneAwareLbSetting: {enabled: false}}", None),
        ("{localityLbSetting: {}}", None),
    ],
)
def test_zone_aware_routing_has_its_smallest_cluster(given, zone_aware):
    assert cluster(f"{{loadBalancer: {given}}}").load_balancer.zone_aware == zone_aware
    mesh = {"zoneAwareLbSetting": {"minClusterSize": 3}}
    assert cluster("{tls: {mode: DISABLE}}", mesh=mesh).load_balancer.zone_aware == ZoneAware(3)


# Connection pools ---------------------------------------------------------------------------------------------------


def test_a_pool_keeps_every_field():
    found = cluster(
        "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s, idleTimeout: 4s, "
        "tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, "
        "maxRequestsPerConnection: 10, maxRetries: 11, idleTimeout: 12s, maxConcurrentStreams: 13, "
        "http2KeepAlive: {interval: 14s, timeout: 15s}}}, proxyProtocol: {version: V2}, "
        "tls: {mode: DISABLE}}",
        port=81,
    )
    breaker, pool = found.circuit_breaker, found.connection_pool
    assert (breaker.max_connections, breaker.max_pending_requests, breaker.max_requests, breaker.max_retries) == (
        1,
        8,
        9,
        11,
    )
    assert (pool.connect_timeout, pool.idle_timeout, pool.max_connection_duration) == (2.0, 12.0, 3.0)
    assert (pool.max_requests_per_connection, pool.max_concurrent_streams) == (10, 13)
    assert pool.tcp_keepalive == TcpKeepalive(5, 6.0, 7.0)
    assert (pool.http2_keepalive.interval, pool.http2_keepalive.timeout) == (14.0, 15.0)
    assert pool.proxy_protocol == 2


def test_nothing_given_is_unlimited_with_the_meshs_connect_timeout():
    found = cluster("{tls: {mode: DISABLE}}", mesh={"connectTimeout": "3s"})
    assert found.circuit_breaker.max_connections is None
    assert (found.connection_pool.connect_timeout, found.connection_pool.idle_timeout) == (3.0, 3600.0)
    assert found.outlier_detection is None


@pytest.mark.parametrize(
    ("pool", "port", "idle"),
    [
        ("{tcp: {idleTimeout: 5s}}", 80, 5.0),
        ("{tcp: {idleTimeout: 0s}}", 80, None),
        ("{tcp: {idleTimeout: 5s}, http: {idleTimeout: 6s}}", 80, 6.0),
        ("{tcp: {idleTimeout: 5s}, http: {idleTimeout: 6s}}", 82, 5.0),
        ("{http: {idleTimeout: 6s}}", 82, 3600.0),
    ],
)
def test_the_idle_time_of_http_wins_where_http_is_spoken(pool, port, idle):
    assert cluster(f"{{connectionPool: {pool}}}", port=port).connection_pool.idle_timeout == idle


def test_streams_and_pings_are_for_http2():
    policy = "{connectionPool: {http: {maxConcurrentStreams: 3, http2KeepAlive: {interval: 1s, timeout: 1s}}}}"
    pool = cluster(policy).connection_pool
    assert (pool.max_concurrent_streams, pool.http2_keepalive) == (None, None)
    assert cluster(policy, port=81).connection_pool.max_concurrent_streams == 3


@pytest.mark.parametrize(
    ("pool", "mesh", "keepalive"),
    [
        ("{tcp: {tcpKeepalive: {time: 5s}}}", {"probes": 3, "time": "9s"}, TcpKeepalive(3, 5.0, None)),
        ("{tcp: {tcpKeepalive: {}}}", None, TcpKeepalive()),
        ("{tcp: {maxConnections: 1}}", {"interval": "9s"}, TcpKeepalive(None, None, 9.0)),
        ("{tcp: {maxConnections: 1}}", None, None),
    ],
)
def test_keepalive_is_taken_field_by_field_from_rule_and_mesh(pool, mesh, keepalive):
    settings = {"tcpKeepalive": mesh} if mesh else {}
    assert cluster(f"{{connectionPool: {pool}}}", mesh=settings).connection_pool.tcp_keepalive == keepalive


@pytest.mark.parametrize(
    ("http", "mesh", "port", "protocol"),
    [
        ("{maxRetries: 1}", "", 80, Protocol.HTTP1),
        ("{maxRetries: 1}", "", 81, Protocol.HTTP2),
        ("{h2UpgradePolicy: UPGRADE}", "", 80, Protocol.HTTP2),
        ("{h2UpgradePolicy: UPGRADE}", "", 82, Protocol.HTTP2),
        ("{maxRetries: 1}", "UPGRADE", 80, Protocol.HTTP2),
        ("{h2UpgradePolicy: DO_NOT_UPGRADE}", "UPGRADE", 80, Protocol.HTTP1),
        ("{useClientProtocol: true}", "UPGRADE", 80, Protocol.CALLER),
    ],
)
def test_who_is_upgraded_to_http2(http, mesh, port, protocol):
    settings = {"h2UpgradePolicy": mesh} if mesh else {}
    assert cluster(f"{{connectionPool: {{http: {http}}}}}", port=port, mesh=settings).protocol is protocol


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ("{}", RetryBudget(0.2, 3, 0.0)),
        ("{percent: 50, minRetryConcurrency: 7, budgetInterval: 10s}", RetryBudget(0.5, 7, 10.0)),
        ("{percent: 0, minRetryConcurrency: 0}", RetryBudget(0.0, 3, 0.0)),
    ],
)
def test_a_retry_budget_stands_without_a_pool(given, budget):
    assert cluster(f"{{retryBudget: {given}}}").circuit_breaker.retry_budget == budget


def test_a_tunnel_is_carried_and_proxy_protocol_is_version_1_by_default():
    assert cluster("{tunnel: {targetHost: t, targetPort: 7}}").tunnel == Tunnel("t", 7, "CONNECT")
    assert cluster("{tunnel: {targetHost: t, targetPort: 7, protocol: POST}}").tunnel == Tunnel("t", 7, "POST")
    assert cluster("{proxyProtocol: {}}").connection_pool.proxy_protocol == 1


def test_ejection_keeps_every_field():
    found = cluster(
        "{outlierDetection: {consecutive5xxErrors: 1, consecutiveGatewayErrors: 2, consecutiveErrors: 99, "
        "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, interval: 4s, baseEjectionTime: 500s,"
        " maxEjectionPercent: 6, minHealthPercent: 7, outlierDetectionHttpErrorCodes: [429]}}"
    )
    detection = found.outlier_detection
    counts = (detection.consecutive_5xx, detection.consecutive_gateway, detection.consecutive_local_origin)
    assert counts == (1, 2, 3)
    assert (detection.interval, detection.base_ejection_time, detection.max_ejection_time) == (4.0, 500.0, 500.0)
    assert (detection.max_ejection_percent, detection.error_codes) == (6, {429})
    assert found.load_balancer.panic_ratio == pytest.approx(0.07)
    defaults = cluster("{outlierDetection: {}}").outlier_detection
    assert (defaults.consecutive_5xx, defaults.consecutive_gateway, defaults.max_ejection_percent) == (5, 0, 10)
    assert (defaults.interval, defaults.base_ejection_time, defaults.max_ejection_time) == (10.0, 30.0, 300.0)


def test_every_value_says_where_it_stands():
    policy = "{retryBudget: {percent: 9}, proxyProtocol: {version: V2}, tunnel: {targetHost: t, targetPort: 1}}"
    source = view(service(), rule("{retryBudget: {percent: 9}, proxyProtocol: {version: V2}}"))
    values = {value.field: (value.value, value.origin) for value in source.policy_values(f"outbound|80||{HOST}")}
    place = "DestinationRule default/dr spec.trafficPolicy"
    assert values["proxyProtocol.version"] == ("V2", f"{place}.proxyProtocol.version")
    assert values["retryBudget.percent"] == (pytest.approx(9), f"{place}.retryBudget.percent")
    own = "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {name: p, namespace: default}\n"
    source = view(
        service(),
        rule(policy.replace(", proxyProtocol: {version: V2}", "")),
        own + "spec: {hosts: [svc], retryBudget: {minConcurrency: 4}}",
    )
    values = {value.field: (value.value, value.origin) for value in source.policy_values(f"outbound|80||{HOST}")}
    assert values["retryBudget.minRetryConcurrency"] == (4, "ClientPolicy default/p spec.retryBudget.minConcurrency")
    assert values["tunnel.targetPort"] == (1, f"{place}.tunnel.targetPort")


# Which rule ---------------------------------------------------------------------------------------------------------

RANDOM = "{loadBalancer: {simple: RANDOM}}"
ROUND = "{loadBalancer: {simple: ROUND_ROBIN}}"


def kind_of(source):
    found = source.cluster(f"outbound|80||{HOST}")
    return found.load_balancer.kind.value


def test_rules_for_one_host_are_merged_into_the_oldest():
    young = rule(RANDOM, "[{name: a, labels: {v: new}}, {name: b}]", name="young", created="2024-02-01T00:00:00Z")
    old = rule("", "[{name: a, labels: {v: old}}]", name="old", created="2024-01-01T00:00:00Z")
    source = view(service(), young, old)
    assert kind_of(source) == "RANDOM", "the first that has a policy gives it as a whole"
    assert source.cluster(f"outbound|80|b|{HOST}") is not None
    found = source.parts(f"outbound|80|a|{HOST}")
    assert found.rule.subsets["a"][0].labels == {"v": "old"}


def test_a_rule_for_some_workloads_is_private_and_goes_first():
    chosen = "  workloadSelector: {matchLabels: {app: x}}"
    texts = (service(), rule(RANDOM, name="some", rest=chosen), rule(ROUND, name="zall"))
    assert kind_of(view(*texts, client=Client("default", {"app": "x"}))) == "RANDOM"
    assert kind_of(view(*texts, client=Client("default", {"app": "y"}))) == "ROUND_ROBIN"
    assert kind_of(view(*texts[:2], client=Client("other", {"app": "x"}))) == "LEAST_REQUEST"


def test_where_only_rules_for_other_workloads_are_found_the_search_is_over():
    mine = rule(RANDOM, host=HOST, namespace="own", rest="  workloadSelector: {matchLabels: {app: x}}")
    texts = (service(), mine, rule(ROUND))
    assert kind_of(view(*texts, client=Client("own", {"app": "y"}))) == "LEAST_REQUEST"


def test_the_meshs_default_makes_rules_private_or_public_and_nothing_else():
    texts, there = (service(), rule(RANDOM)), Client("other")
    assert kind_of(view(*texts, client=there)) == "RANDOM"
    assert kind_of(view(*texts, mesh={"defaultDestinationRuleExportTo": ["."]}, client=there)) == "LEAST_REQUEST"
    assert kind_of(view(*texts, mesh={"defaultDestinationRuleExportTo": ["far"]}, client=there)) == "RANDOM"


def test_extras_survive_a_subsets_port_level_entry_and_blocks_do_not():
    policy = "{retryBudget: {percent: 50}, proxyProtocol: {version: V2}, connectionPool: {tcp: {maxConnections: 5}}}"
    subset = "[{name: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}]"
    found = cluster(policy, subset="a", subsets=subset)
    assert found.circuit_breaker.retry_budget == RetryBudget(0.5)
    assert found.connection_pool.proxy_protocol == 2
    assert found.circuit_breaker.max_connections is None
    level = "{retryBudget: {percent: 50}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"
    assert cluster(level).circuit_breaker.retry_budget is None


# TLS ----------------------------------------------------------------------------------------------------------------


def entry(host="svc.example", rest="", location="MESH_EXTERNAL"):
    return (
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: default}\nspec:\n"
        f"  hosts: [{host}]\n  location: {location}\n  resolution: STATIC\n  ports: [{{number: 80, name: http, "
        f"protocol: HTTP}}]\n{rest}"
    )


def tls(policy, *texts, host=HOST, mesh=None, client=None, subset="", rest=""):
    short = "svc" if host == HOST else host
    source = view(*texts, rule(f"{{tls: {policy}}}", host=short, rest=rest), mesh=mesh, client=client)
    return source.cluster(f"outbound|80|{subset}|{host}").tls


def test_an_empty_tls_block_is_plaintext():
    assert tls("{}", service()).mode is TlsMode.DISABLE


def test_simple_tls_checks_the_host_unless_the_rule_says_whom_to_expect():
    texts = (entry(rest="  subjectAltNames: [san.example]\n  endpoints: [{address: 10.0.0.1}]"),)
    bare = tls("{mode: SIMPLE}", *texts, host="svc.example")
    assert (bare.sni, bare.verify_host, bare.subject_alt_names) == ("", True, ("san.example",))
    named = tls("{mode: SIMPLE, subjectAltNames: [other]}", *texts, host="svc.example")
    assert (named.verify_host, named.subject_alt_names) == (False, ("other",))
    sni = tls("{mode: SIMPLE, sni: sni.example}", *texts, host="svc.example")
    assert (sni.sni, sni.verify_host, sni.subject_alt_names) == ("sni.example", False, ("san.example",))
    careless = tls("{mode: SIMPLE, insecureSkipVerify: true}", *texts, host="svc.example")
    assert (careless.verify, careless.verify_host, careless.subject_alt_names) == (False, False, ())
    of_kubernetes = tls("{mode: SIMPLE, caCertificates: system}", service())
    assert (of_kubernetes.subject_alt_names, of_kubernetes.ca_certificates) == ((), "")


def test_the_meshs_tls_defaults_hold_for_tls_that_is_not_the_meshs():
    mesh = {"tlsDefaults": {"minProtocolVersion": "TLSV1_3", "cipherSuites": ["C"], "ecdhCurves": ["P-256"]}}
    simple = tls("{mode: SIMPLE}", service(), mesh=mesh)
    assert (simple.min_version, simple.cipher_suites, simple.ecdh_curves) == ("TLSV1_3", ("C",), ("P-256",))
    mutual = tls("{mode: ISTIO_MUTUAL}", service(), mesh=mesh)
    assert (mutual.min_version, mutual.cipher_suites) == ("", ())


def test_a_credential_needs_a_workload_selector_and_is_refused_without():
    refused = tls("{mode: SIMPLE, credentialName: secret}", service())
    assert refused.mode is TlsMode.SIMPLE
    assert "workloadSelector" in refused.refused
    assert tls("{mode: DISABLE, credentialName: secret}", service()).refused == ""
    assert tls("{mode: SIMPLE, credentialName: 'configmap://default/ca'}", service()).refused == ""
    chosen = tls("{mode: SIMPLE, credentialName: secret}", service(), rest="  workloadSelector: {matchLabels: {}}")
    assert (chosen.credential_name, chosen.refused) == ("secret", "")


def test_mutual_tls_of_the_mesh_ignores_files_and_knows_its_peers():
    pods = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default, labels: {app: svc, "
        "security.istio.io/tlsMode: istio}}\nspec: {serviceAccountName: svc-account}",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: default, labels: "
        "{kubernetes.io/service-name: svc}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\n"
        "endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}]",
    )
    mesh = {"trustDomain": "td", "trustDomainAliases": ["old"]}
    notes = service().replace(
        "namespace: default}",
        "namespace: default, annotations: {alpha.istio.io/kubernetes-serviceaccounts: vm, "
        "alpha.istio.io/canonical-serviceaccounts: 'spiffe://far/x'}}",
    )
    given = "{mode: ISTIO_MUTUAL, caCertificates: ignored, clientCertificate: ignored, privateKey: ignored}"
    found = tls(given, notes, *pods, mesh=mesh)
    assert (found.ca_certificates, found.client_certificate, found.verify_host) == ("", "", False)
    assert found.sni == f"outbound_.80_._.{HOST}"
    assert found.subject_alt_names == (
        "spiffe://far/x",
        "spiffe://old/ns/default/sa/svc-account",
        "spiffe://old/ns/default/sa/vm",
        "spiffe://old/x",
        "spiffe://td/ns/default/sa/svc-account",
        "spiffe://td/ns/default/sa/vm",
    )
    own = tls("{mode: ISTIO_MUTUAL, sni: me, subjectAltNames: [only]}", notes, *pods, mesh=mesh)
    assert (own.sni, own.subject_alt_names) == ("me", ("only",))


def automatic(*texts, mesh=None, name=f"outbound|80||{HOST}", client=None):
    source = view(*texts, mesh=mesh, client=client)
    found = source.cluster(name).tls
    return [found.towards(e.accepts_mtls).value for group in source.assignment(name) for e in group.endpoints]


MIXED = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: default, labels: {app: a, "
    "security.istio.io/tlsMode: istio}}\nspec: {}",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: default, labels: {app: b}}\nspec: {}",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: default, labels: "
    "{kubernetes.io/service-name: svc}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n"
    "- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: a}}\n"
    "- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: b}}",
)


def peers(mode, namespace="default", rest=""):
    return (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {{name: p{len(rest)}, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}{rest}}}"
    )


def test_automatic_mutual_tls_is_for_the_endpoints_that_speak_it():
    assert automatic(service(), *MIXED) == ["ISTIO_MUTUAL", "DISABLE"]
    assert automatic(service(), *MIXED, mesh={"enableAutoMtls": False}) == ["DISABLE", "DISABLE"]


def test_the_service_namespace_decides_about_mutual_tls_and_the_clients_does_not():
    assert automatic(service(), *MIXED, peers("DISABLE")) == ["DISABLE", "DISABLE"]
    assert automatic(service(), *MIXED, peers("DISABLE", "istio-system")) == ["DISABLE", "DISABLE"]
    overruled = automatic(service(), *MIXED, peers("DISABLE", "istio-system"), peers("STRICT"))
    assert overruled == ["ISTIO_MUTUAL", "DISABLE"]
    there = automatic(service(), *MIXED, peers("DISABLE", "client"), client=Client("client"))
    assert there == ["ISTIO_MUTUAL", "DISABLE"]


def test_an_endpoints_own_policy_switches_mutual_tls_off_for_it():
    own = ", selector: {matchLabels: {app: a}}"
    assert automatic(service(), *MIXED, peers("DISABLE", rest=own)) == ["DISABLE", "DISABLE"]
    ports = own + ", portLevelMtls: {8080: {mode: DISABLE}}"
    assert automatic(service(), *MIXED, peers("STRICT", rest=ports)) == ["DISABLE", "DISABLE"]
    other = own + ", portLevelMtls: {9090: {mode: DISABLE}}"
    assert automatic(service(), *MIXED, peers("STRICT", rest=other)) == ["ISTIO_MUTUAL", "DISABLE"]


def test_a_headless_service_has_mutual_tls_only_where_all_its_endpoints_speak_it():
    headless = service(rest=", clusterIP: None")
    assert automatic(headless, *MIXED) == ["DISABLE", "DISABLE"]
    all_of_them = (*MIXED[:1], MIXED[1].replace("app: b", "app: b, security.istio.io/tlsMode: istio"), MIXED[2])
    assert automatic(headless, *all_of_them) == ["ISTIO_MUTUAL", "ISTIO_MUTUAL"]
    assert view(headless).cluster(f"outbound|80||{HOST}").tls.mode is TlsMode.DISABLE, "it has no endpoint"


def test_services_outside_the_mesh_have_no_automatic_tls_and_those_inside_do():
    endpoints = "  endpoints: [{address: 10.0.0.1, serviceAccount: sa}, {address: 10.0.0.2}]"
    name = "outbound|80||svc.example"
    assert automatic(entry(rest=endpoints), name=name) == ["DISABLE", "DISABLE"]
    inside = entry(rest=endpoints, location="MESH_INTERNAL")
    assert automatic(inside, name=name) == ["ISTIO_MUTUAL", "DISABLE"]
    found = view(inside).cluster(name).tls
    assert found.subject_alt_names == ("spiffe://cluster.local/ns/default/sa/sa",)


def test_a_service_with_its_own_tls_has_the_meshs_around_it():
    tls_port = service(ports="[{name: https, port: 80}]")
    slices = (MIXED[0], MIXED[2].replace("name: http,", "name: https,"))
    assert automatic(tls_port, *slices)[0] == "ISTIO_MUTUAL"


# Locality -----------------------------------------------------------------------------------------------------------

PLACES = (
    "  endpoints:\n  - {address: 10.0.0.1, locality: us/a, labels: {v: '1'}}\n"
    "  - {address: 10.0.0.2, locality: us/b}\n  - {address: 10.0.0.3, locality: eu/a}"
)
US = Client(locality=Locality("us", "a"))


def priorities(policy="", *, mesh=None, notes="", client=US):
    given = entry(rest=PLACES).replace("namespace: default}", f"namespace: default{notes}}}")
    texts = (given, rule(policy, host="svc.example")) if policy else (given,)
    source = view(*texts, mesh=mesh, client=client)
    groups = source.assignment("outbound|80||svc.example")
    return [
        group.priority
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3")
        for group in groups
        if any(e.address == address for e in group.endpoints)
    ]


FAILOVER = "{loadBalancer: {localityLbSetting: {failover: [{from: us, to: eu}]}}"
NOTE = ", annotations: {networking.istio.io/traffic-distribution: preferclose}"


@pytest.mark.parametrize(
    ("policy", "mesh", "notes", "expected"),
    [
        ("", {}, "", [0, 0, 0]),
        (FAILOVER + "}", {}, "", [0, 0, 0]),
        (FAILOVER + ", outlierDetection: {}}", {}, "", [0, 1, 2]),
        ("{outlierDetection: {}}", {}, "", [0, 1, 2]),
        ("{outlierDetection: {}}", {"localityLbSetting": {"enabled": False}}, "", [0, 0, 0]),
        ("{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}", {}, NOTE, [0, 0, 0]),
        ("", {}, NOTE, [0, 1, 2]),
        ("{loadBalancer: {zoneAwareLbSetting: {}}}", {}, "", [0, 0, 1]),
        ("", {"zoneAwareLbSetting": {}}, "", [0, 0, 1]),
        ("", {"zoneAwareLbSetting": {}}, NOTE, [0, 1, 2]),
        ("{loadBalancer: {zoneAwareLbSetting: {enabled: false}}, outlierDetection: {}}", {}, NOTE, [0, 0, 0]),
        (
            "{loadBalancer: {localityLbSetting: {failoverPriority: [v=1]}}, outlierDetection: {}}",
            {},
            "",
            [0, 1, 1],
        ),
    ],
)
def test_the_first_setting_that_is_present_orders_the_localities(policy, mesh, notes, expected):
    assert priorities(policy, mesh=mesh, notes=notes) == expected


def test_unready_endpoints_are_dropped_where_panic_is_wanted():
    slices = MIXED[2].replace(
        "{addresses: [10.0.0.2],", "{conditions: {ready: false, terminating: false}, addresses: [10.0.0.2],"
    )
    name = f"outbound|80||{HOST}"

    def known(policy):
        source = view(service(), *MIXED[:2], slices, rule(policy))
        return [(e.address, e.health.value) for group in source.assignment(name) for e in group.endpoints]

    assert known("{outlierDetection: {}}") == [("10.0.0.1", "HEALTHY"), ("10.0.0.2", "UNHEALTHY")]
    assert known("{outlierDetection: {minHealthPercent: 1}}") == [("10.0.0.1", "HEALTHY")]


def test_new_endpoints_bring_their_identities_along_without_new_routing():
    pod, slices = MIXED[0], MIXED[2].split("\n- {addresses: [10.0.0.2]")[0]
    feed = Feed(1, Options(Client()))
    prepared = None
    for account in ("one", "two"):
        text = "\n---\n".join([service(), pod.replace("spec: {}", f"spec: {{serviceAccountName: {account}}}"), slices])
        feed.take(0, Facts(tuple(load_text(text).resources), ()))
        snapshot = feed.publish()
        if prepared is None:
            prepared = Prepared(snapshot, State(), 0.0, random.Random(1))
            found = prepared.cluster(f"outbound|80||{HOST}")
        else:
            assert snapshot.routing is prepared.snapshot.routing
            prepared.with_endpoints(snapshot, 0.0)
        assert found.cluster.tls.subject_alt_names == (f"spiffe://cluster.local/ns/default/sa/{account}",)
