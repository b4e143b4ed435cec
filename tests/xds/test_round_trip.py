"""What is written is read back as it was."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.config.route.v3")

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.model.cluster import Discovery
from meshlib.model.snapshot import PathNormalization
from meshlib.xds import decode, encode
from meshlib.xds.encode.values import extension
from meshlib.xds.messages import json_format
from tests.xds.models import ASSIGNMENTS, clusters, tables

MANY = settings(max_examples=150, deadline=None)


@MANY
@given(tables())
def test_route_tables(table):
    message = encode.route_configuration(table)
    found = decode.route_configuration(message)
    assert found.value == table
    assert found.not_honoured == ()


@MANY
@given(clusters())
def test_clusters(pair):
    cluster, assignment = pair
    found = decode.cluster(encode.cluster(cluster, assignment))
    assert found.value.cluster == cluster
    assert found.not_honoured == ()
    if assignment:
        assert found.value.endpoints.assignment == assignment
    wanted = cluster.name if cluster.discovery is Discovery.ENDPOINTS else ""
    assert found.value.service_name == wanted


@MANY
@given(clusters(), ASSIGNMENTS)
def test_endpoints(pair, assignment):
    balancer = replace(pair[0].load_balancer, overprovisioning=1.2)
    cluster = replace(pair[0], load_balancer=balancer)
    found = decode.load_assignment(encode.load_assignment(cluster, assignment))
    assert (found.value.name, found.value.assignment) == (cluster.name, assignment)
    assert (found.value.overprovisioning, found.not_honoured) == (1.2, ())


@settings(max_examples=30, deadline=None)
@given(tables(), st.sampled_from(list(PathNormalization)))
def test_listeners(table, paths):
    routes = encode.route_configuration(table)
    found = decode.listener(encode.listener("80", "127.0.0.1", 80, routes, fault_filters=2, paths=paths))
    assert (found.value.name, found.value.address, found.value.port) == ("80", "127.0.0.1", 80)
    assert (found.value.manager.table, found.value.manager.paths) == (table, paths)
    assert found.not_honoured == ()


def test_listeners_of_grpc_ask_for_their_routes():
    found = decode.listener(encode.api_listener("svc:80", "outbound|80||svc"), decode.Profile.GRPC)
    assert (found.value.manager.table, found.value.manager.table_name) == (None, "outbound|80||svc")


@settings(max_examples=30, deadline=None)
@given(tables())
def test_the_form_of_a_resource_does_not_matter(table):
    message = encode.route_configuration(table)
    packed = extension(message)
    text = json_format.MessageToJson(message)
    plain = json_format.MessageToDict(packed)
    for form in (packed, text, plain):
        assert decode.route_configuration(form).value == table
