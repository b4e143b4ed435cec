"""Raw connections by a sidecar's listeners."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.service.discovery.v3")

from meshlib.xds import decode
from meshlib.xds.connection_listeners import ConnectionListeners
from meshlib.xds.messages import http_connection_manager_pb2, tcp_proxy_pb2
from tests.xds.resources import packed, socket_listener, tcp_listener

DB, SECURE = "outbound|5432||db.shop.svc.cluster.local", "outbound|8443||secure.shop.svc.cluster.local"
OTHER = "outbound|8443||other.shop.svc.cluster.local"


def listeners(*messages):
    found = ConnectionListeners()
    for message in messages:
        found.add(decode.listener(message).value)
    return found


def goes_to(known, host, port, sni="", dialled=""):
    spellings = (f"{host}.shop.svc.cluster.local", f"{host}.svc.cluster.local")
    found = known.find(host, port, lambda _: spellings)
    way = found.select(dialled or host, sni) if found is not None else None
    return None if way is None else way.route.action.clusters[0].cluster


def test_an_address_means_its_own_listener_and_then_the_one_of_all_addresses():
    known = listeners(
        tcp_listener("10.96.0.9_5432", "10.96.0.9", 5432, ("", DB)),
        tcp_listener("0.0.0.0_5432", "0.0.0.0", 5432, ("", OTHER)),
    )
    assert goes_to(known, "10.96.0.9", 5432) == DB
    assert goes_to(known, "10.96.0.10", 5432) == OTHER
    assert goes_to(known, "10.96.0.9", 5433) is None


@pytest.mark.parametrize("name", ["db", "db.shop", "db.shop.svc.cluster.local"])
def test_a_name_means_the_listener_of_its_service(name):
    known = listeners(tcp_listener("10.96.0.9_5432", "10.96.0.9", 5432, ("", DB)))
    assert goes_to(known, name, 5432) == DB
    found = known.find(name, 5432, lambda host: (f"{host}.shop.svc.cluster.local", f"{host}.svc.cluster.local"))
    assert (found.service, found.address) == ("db.shop.svc.cluster.local", "10.96.0.9")


def test_server_names_tell_the_ways_of_a_listener_apart_and_the_rest_is_the_outbound_policys():
    ways = (("secure.shop.svc.cluster.local", SECURE), ("*.example.com", OTHER))
    known = listeners(tcp_listener("0.0.0.0_8443", "0.0.0.0", 8443, *ways, otherwise="PassthroughCluster"))
    assert goes_to(known, "secure.shop.svc.cluster.local", 8443, "secure.shop.svc.cluster.local") == SECURE
    assert goes_to(known, "a.example.com", 8443, "a.example.com") == OTHER
    assert goes_to(known, "stranger", 8443, "stranger") is None
    assert goes_to(known, "secure.shop.svc.cluster.local", 8443) is None


def test_chains_for_requests_and_the_virtual_listener_are_no_ways():
    sniffing = socket_listener("0.0.0.0_80", 80, "80")
    sniffing.filter_chains[0].filter_chain_match.application_protocols.append("http/1.1")
    sniffing.default_filter_chain.CopyFrom(tcp_listener("x", "", 80, ("", "PassthroughCluster")).filter_chains[0])
    virtual = tcp_listener(
        "virtualOutbound", "0.0.0.0", 15001, ("", "BlackHoleCluster"), otherwise="PassthroughCluster"
    )
    virtual.use_original_dst.value = True
    for message in (sniffing, virtual):
        found = decode.listener(message)
        assert (found.value.ways, found.not_honoured) == ((), ())
    assert decode.listener(sniffing).value.manager is not None


def test_weights_and_times_are_the_proxys():
    made = tcp_listener("0.0.0.0_1", "0.0.0.0", 1, ("", DB))
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix="x")
    proxy.weighted_clusters.clusters.add(name=DB, weight=3)
    proxy.weighted_clusters.clusters.add(name=OTHER, weight=1)
    proxy.weighted_clusters.clusters.add(name=SECURE, weight=0)
    proxy.idle_timeout.FromSeconds(0)
    proxy.max_downstream_connection_duration.FromSeconds(60)
    made.filter_chains[0].filters[0].typed_config.CopyFrom(packed(proxy))
    (way,) = decode.listener(made).value.ways
    assert [(each.cluster, each.weight) for each in way.route.action.clusters] == [(DB, 3), (OTHER, 1)]
    assert (way.idle_timeout, way.max_duration) == (None, 60)


def test_what_an_inbound_listener_does_is_its_servers_affair():
    made = socket_listener("virtualInbound", 15006, "inbound")
    made.traffic_direction = "INBOUND"
    broken = http_connection_manager_pb2.HttpConnectionManager()
    made.filter_chains[0].filters[0].typed_config.Pack(broken)
    found = decode.listener(made)
    assert (found.value.inbound, found.value.manager, found.not_honoured) == (True, None, ())
