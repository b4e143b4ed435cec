"""What is refused, by whose rules, and what is reported as having no effect. Source: measured on gRPC and Envoy."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.config.route.v3")

from meshlib.model.policy import BalancerKind, TlsMode
from meshlib.model.route import DirectResponse
from meshlib.xds import decode
from meshlib.xds.decode import InvalidResource, Profile

TYPES = "type.googleapis.com/"
ADS = {"ads": {}, "resource_api_version": "V3"}
EDS = {"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": ADS}}
FORWARD = {"route": {"cluster": "c"}}
RETRY = {"retry_on": "unavailable"}


def endpoint(port=80, address="10.0.0.1", **more):
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}, **more}


def locality(*endpoints, **more):
    given = {"locality": {"region": "r"}, "load_balancing_weight": 1, "lb_endpoints": list(endpoints), **more}
    return {name: value for name, value in given.items() if value is not None}


def assignment(*localities, **more):
    return {"cluster_name": "c", "endpoints": list(localities), **more}


def route(match=None, **more):
    action = more or FORWARD
    return {
        "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": match or {"prefix": "/"}, **action}]}]
    }


def domains(*names):
    hosts = [{"name": str(n), "domains": [name], "routes": []} for n, name in enumerate(names)]
    return {"virtual_hosts": hosts}


def header(**match):
    return route({"prefix": "/", "headers": [{"name": "x", **match}]})


def forward(**more):
    return route(route={"cluster": "c", **more})


def cluster(**more):
    return {**EDS, **more}


def outlier(**more):
    return cluster(outlier_detection=more)


def manager(**more):
    kind = TYPES + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    rds = {"rds": {"route_config_name": "r", "config_source": ADS}}
    return {"name": "l", "api_listener": {"api_listener": {"@type": kind, **rds, **more}}}


ROUTER = {"name": "router", "typed_config": {"@type": TYPES + "envoy.extensions.filters.http.router.v3.Router"}}
TLS = TYPES + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def tls(**common):
    return cluster(transport_socket={"name": "tls", "typed_config": {"@type": TLS, "common_tls_context": common}})


ROUTES, CLUSTERS, ENDPOINTS = decode.route_configuration, decode.cluster, decode.load_assignment
LISTENERS = decode.listener
PROVIDER = {"validation_context": {"ca_certificate_provider_instance": {"instance_name": "default"}}}

TABLE = [
    # reader, resource, gRPC takes it, Envoy takes it
    (ROUTES, route(), True, True),
    (ROUTES, route({"path_separated_prefix": "/x"}), False, True),
    (ROUTES, route({"path_separated_prefix": "/x/"}), False, False),
    (ROUTES, route({"safe_regex": {"regex": "(?=x)"}}), False, False),
    (ROUTES, route({"headers": []}), False, False),
    (ROUTES, header(), False, True),
    (ROUTES, header(prefix_match=""), True, False),
    (ROUTES, header(string_match={"prefix": ""}), False, False),
    (ROUTES, domains("a.com", "A.com"), True, False),
    (ROUTES, domains("a*b"), False, True),
    (ROUTES, {"virtual_hosts": [{"name": "v", "domains": [], "routes": []}]}, False, False),
    (ROUTES, route(route={"weighted_clusters": {"clusters": [{"name": "c", "weight": 0}]}}), False, False),
    (ROUTES, forward(retry_policy={**RETRY, "num_retries": 0}), False, True),
    (ROUTES, forward(retry_policy={**RETRY, "retry_back_off": {"base_interval": "0s"}}), False, False),
    (
        ROUTES,
        forward(retry_policy={**RETRY, "retry_back_off": {"base_interval": "1s", "max_interval": "0.5s"}}),
        True,
        False,
    ),
    (ROUTES, forward(prefix_rewrite="/", regex_rewrite={"pattern": {"regex": "a"}}), False, False),
    (ROUTES, route(direct_response={"status": 99}), False, False),
    (CLUSTERS, EDS, True, True),
    (CLUSTERS, {"name": "c"}, False, True),
    (CLUSTERS, {"name": "c", "type": "STRICT_DNS"}, False, True),
    (CLUSTERS, {"name": "", "type": "EDS", "eds_cluster_config": {"eds_config": ADS}}, False, False),
    (CLUSTERS, {"name": "c", "type": "EDS"}, False, False),
    (CLUSTERS, {"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"path": "/x"}}}, False, True),
    (CLUSTERS, {"name": "c", "type": "LOGICAL_DNS", "load_assignment": assignment()}, False, False),
    (
        CLUSTERS,
        {"name": "c", "type": "LOGICAL_DNS", "load_assignment": assignment(locality(endpoint(address="a.b")))},
        True,
        True,
    ),
    (CLUSTERS, cluster(lb_policy="MAGLEV"), False, True),
    (CLUSTERS, cluster(lb_policy="CLUSTER_PROVIDED"), False, False),
    (CLUSTERS, cluster(lb_policy="LOAD_BALANCING_POLICY_CONFIG"), False, False),
    (CLUSTERS, cluster(lb_policy="RING_HASH", ring_hash_lb_config={"minimum_ring_size": 9000000}), False, False),
    (CLUSTERS, cluster(lb_policy="RING_HASH", ring_hash_lb_config={"maximum_ring_size": 10}), False, False),
    (CLUSTERS, cluster(lb_policy="MAGLEV", maglev_lb_config={"table_size": 12}), False, False),
    (
        CLUSTERS,
        cluster(lb_policy="LEAST_REQUEST", least_request_lb_config={"choice_count": 1}),
        False,
        False,
    ),
    (CLUSTERS, cluster(connect_timeout="0s"), False, False),
    (CLUSTERS, outlier(max_ejection_percent=101), False, False),
    (CLUSTERS, outlier(base_ejection_time="30s", max_ejection_time="1s"), True, False),
    (CLUSTERS, cluster(cluster_type={"name": "x", "typed_config": ROUTER["typed_config"]}), False, False),
    (CLUSTERS, tls(), False, True),
    (CLUSTERS, tls(**PROVIDER), True, True),
    (CLUSTERS, tls(**PROVIDER, tls_params={}), False, True),
    (CLUSTERS, tls(validation_context={"match_subject_alt_names": [{"prefix": "a"}]}), False, False),
    (CLUSTERS, tls(validation_context={"trusted_ca": {"inline_string": "PEM"}}), False, False),
    (ENDPOINTS, assignment(locality(endpoint())), True, True),
    (ENDPOINTS, assignment(locality(endpoint(), locality=None)), False, True),
    (ENDPOINTS, assignment(locality(endpoint(), priority=1)), False, True),
    (ENDPOINTS, assignment(locality(endpoint(), priority=129)), False, False),
    (ENDPOINTS, assignment(locality(endpoint(), endpoint())), False, True),
    (ENDPOINTS, assignment(locality(endpoint(1)), locality(endpoint(2))), False, True),
    (ENDPOINTS, assignment(locality(endpoint(load_balancing_weight=0))), False, False),
    (ENDPOINTS, assignment(locality(endpoint(address="a.example.com"))), False, False),
    (ENDPOINTS, assignment(policy={"overprovisioning_factor": 0}), False, False),
    (LISTENERS, manager(http_filters=[ROUTER]), True, True),
    (LISTENERS, manager(), False, True),
    (LISTENERS, manager(http_filters=[ROUTER, {**ROUTER, "name": "again"}]), False, True),
    (LISTENERS, manager(http_filters=[{"name": "x", "typed_config": {"@type": TLS}}, ROUTER]), False, True),
    (
        LISTENERS,
        manager(http_filters=[{"name": "x", "is_optional": True, "typed_config": {"@type": TLS}}, ROUTER]),
        True,
        True,
    ),
    (LISTENERS, manager(http_filters=[ROUTER], xff_num_trusted_hops=1), False, True),
]


@pytest.mark.parametrize(("profile", "column"), [(Profile.GRPC, 2), (Profile.HTTP, 3)])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[1])[:90])
def test_each_profile_refuses_what_its_peer_refuses(row, profile, column):
    if row[column]:
        row[0](row[1], profile)
    else:
        with pytest.raises(InvalidResource) as caught:
            row[0](row[1], profile)
        assert caught.value.problems


def test_every_problem_is_told_with_its_path():
    given = route({"prefix": "/", "headers": [{"name": ""}]}, route={"cluster": "c", "timeout": "-1s"})
    with pytest.raises(InvalidResource) as caught:
        decode.route_configuration(given)
    where = "virtual_hosts[0].routes[0]"
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [
        f"{where}.match.headers[0].name",
        f"{where}.route.timeout",
    ]


def test_what_is_no_resource_of_the_kind_is_refused():
    for given in ({"nonsense": 1}, "{", '{"virtual_hosts": 3}'):
        with pytest.raises(InvalidResource):
            decode.route_configuration(given)


def only_route(found):
    ((host, _),) = found.value.hosts
    return host.routes[0] if host.routes else None


def test_a_condition_that_cannot_be_asked_never_matches_and_is_reported():
    found = decode.route_configuration(route({"prefix": "/", "dynamic_metadata": [{"filter": "f"}]}))
    assert only_route(found) is None
    assert found.not_honoured == ("virtual_hosts[0].routes[0].match.dynamic_metadata",)


def test_an_action_that_cannot_be_done_answers_503_and_is_reported():
    found = decode.route_configuration(route(route={"cluster_header": "x-cluster"}))
    assert only_route(found).action == DirectResponse(503)
    assert found.not_honoured == ("virtual_hosts[0].routes[0].route.cluster_header",)


def test_fields_without_effect_are_reported_wherever_they_stand():
    given = cluster(lb_subset_config={}, health_checks=[{}], common_lb_config={"override_host_status": {}})
    found = decode.cluster(given)
    assert set(found.not_honoured) == {"lb_subset_config", "health_checks", "common_lb_config.override_host_status"}
    drops = {"drop_overloads": [{"category": "x"}]}
    assert decode.load_assignment(assignment(policy=drops)).not_honoured == ("policy.drop_overloads",)


def test_defaults_are_the_peers():
    found = only_route(decode.route_configuration(forward(retry_policy=RETRY)))
    assert (found.action.timeout, found.action.retry.attempts) == (15.0, 1)
    of_grpc = only_route(decode.route_configuration(forward(retry_policy={**RETRY, "num_retries": 9}), Profile.GRPC))
    assert (of_grpc.action.timeout, of_grpc.action.retry.attempts) == (None, 4)
    made = decode.cluster(cluster(circuit_breakers={})).value.cluster
    assert (made.circuit_breaker.max_requests, made.circuit_breaker.max_retries) == (1024, 3)
    assert (made.connection_pool.connect_timeout, made.load_balancer.panic_ratio) == (5.0, 0.5)
    assert made.load_balancer.kind is BalancerKind.ROUND_ROBIN


def test_grpc_leaves_out_what_it_may_not_use():
    given = assignment(
        locality(endpoint(1), load_balancing_weight=0), locality(endpoint(2), endpoint(3, health_status="UNHEALTHY"))
    )
    (group,) = decode.load_assignment(given, Profile.GRPC).value.assignment
    assert [each.port for each in group.endpoints] == [2]


def test_the_first_known_balancer_of_a_list_counts():
    ring = {"@type": TYPES + "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash", "minimum_ring_size": 7}
    unknown = {"@type": TYPES + "xds.type.v3.TypedStruct", "type_url": TYPES + "x.Unknown"}
    struct = {"@type": TYPES + "xds.type.v3.TypedStruct", "type_url": ring["@type"], "value": {"minimum_ring_size": 5}}
    for config, size in ((ring, 7), (struct, 5)):
        policies = [{"typed_extension_config": {"name": "x", "typed_config": each}} for each in (unknown, config)]
        found = decode.cluster(cluster(lb_policy="MAGLEV", load_balancing_policy={"policies": policies})).value.cluster
        assert (found.load_balancer.kind, found.load_balancer.min_ring_size) == (BalancerKind.RING_HASH, size)


def test_aggregates_name_their_children():
    kind = TYPES + "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
    config = {"name": "envoy.clusters.aggregate", "typed_config": {"@type": kind, "clusters": ["a", "b"]}}
    given = {"name": "c", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": config}
    assert decode.cluster(given).value.children == ("a", "b")
    with pytest.raises(InvalidResource):
        decode.cluster({"name": "c", "cluster_type": {**config, "typed_config": {"@type": kind}}})


def test_istios_clusters_are_mutual_tls_by_secret_or_by_provider():
    secret = {"tls_certificate_sds_secret_configs": [{"name": "default"}]}
    secret["combined_validation_context"] = {
        "default_validation_context": {"match_subject_alt_names": [{"exact": "spiffe://td/ns/a/sa/b"}]},
        "validation_context_sds_secret_config": {"name": "ROOTCA"},
    }
    instance = {"instance_name": "default", "certificate_name": "default"}
    provider = {
        "tls_certificate_certificate_provider_instance": instance,
        "combined_validation_context": {
            "default_validation_context": {"match_subject_alt_names": [{"exact": "spiffe://td/ns/a/sa/b"}]},
            "validation_context_certificate_provider_instance": {**instance, "certificate_name": "ROOTCA"},
        },
    }
    for common, profile in ((secret, Profile.HTTP), (provider, Profile.HTTP)):
        found = decode.cluster(tls(**common), profile).value.cluster.tls
        assert (found.mode, found.subject_alt_names) == (TlsMode.ISTIO_MUTUAL, ("spiffe://td/ns/a/sa/b",))
        assert found.verify


def test_no_roots_means_no_verification_as_in_envoy():
    assert decode.cluster(tls()).value.cluster.tls.verify is False


def test_filters_closer_to_the_route_win():
    kind = TYPES + "envoy.extensions.filters.http.fault.v3.HTTPFault"

    def fault(status):
        return {"@type": kind, "abort": {"http_status": status, "percentage": {"numerator": 100}}}

    chain = [{"name": "f", "typed_config": fault(501)}, {"name": "g", "typed_config": fault(502)}, ROUTER]
    own = {"f": {"@type": TYPES + "envoy.config.route.v3.FilterConfig", "disabled": True}}
    table = {
        "virtual_hosts": [
            {
                "name": "v",
                "domains": ["*"],
                "typed_per_filter_config": {"g": fault(503)},
                "routes": [
                    {"match": {"prefix": "/a"}, **FORWARD, "typed_per_filter_config": own},
                    {"match": {"prefix": "/"}, **FORWARD},
                ],
            }
        ]
    }
    given = manager(http_filters=chain)
    inline = given["api_listener"]["api_listener"]
    del inline["rds"]
    inline["route_config"] = table
    ((host, _),) = decode.listener(given).value.manager.table.hosts
    first, second = (route.fault for route in host.routes)
    assert (first.abort.http_status, first.then) == (503, None)
    assert (second.abort.http_status, second.then.abort.http_status) == (501, 503)


def test_levels_of_header_operations_run_outwards_unless_the_most_specific_wins():
    def add(value):
        return {"request_headers_to_add": [{"header": {"key": "x", "value": value}}]}

    inner = {"match": {"prefix": "/"}, **FORWARD, **add("route")}
    given = {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [inner], **add("host")}], **add("table")}

    def order(found):
        made = only_route(found)
        return [ops.add[0][1] for ops in (made.request_headers, *made.outer_request_headers)]

    assert order(decode.route_configuration(given)) == ["route", "host", "table"]
    given["most_specific_header_mutations_wins"] = True
    assert order(decode.route_configuration(given)) == ["table", "host", "route"]
