"""Towards an API server that speaks HTTP/2, as real ones do: one connection for all collections."""

from __future__ import annotations

import ssl
from contextlib import contextmanager

import pytest
import trustme

from meshlib import Mesh
from meshlib.providers import KubernetesProvider
from tests.kubernetes.api import Server
from tests.kubernetes.front import Front
from tests.kubernetes.objects import endpoints, route, service
from tests.kubernetes.worlds import QUICK, World, until


@pytest.fixture
def front(tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kubernetes.default.svc").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server() as api, Front(api, context) as front:
        api.put(service("reviews"), endpoints("reviews", "10.0.0.1"))
        yield front


@contextmanager
def followed(front, tmp_path, tuning=QUICK):
    cluster = {
        "server": f"https://127.0.0.1:{front.port}",
        "certificate-authority": "ca.pem",
        "tls-server-name": "kubernetes.default.svc",
    }
    (tmp_path / "kubeconfig").write_text(front.api.kubeconfig({}, cluster))
    provider = KubernetesProvider(tmp_path / "kubeconfig", tuning=tuning)
    with Mesh(provider, telemetry=False) as mesh:
        mesh.ready(timeout=20)
        yield World(front.api, provider, mesh)


def test_all_lists_and_watches_share_one_connection(front, tmp_path):
    for number in range(500):
        front.api.put(route(f"r{number}", 200))
    with followed(front, tmp_path) as known:
        assert known.endpoints("reviews") == ["10.0.0.1:8080"]
        until(lambda: len(front.api.watches) >= 10)
        front.api.put(endpoints("reviews", "10.0.0.2"))
        known.settles("reviews", "10.0.0.2:8080")
        assert known.status("r499") == 200
        assert front.connections == 1


def test_a_server_that_goes_away_politely_is_followed_over_another_connection(front, tmp_path):
    with followed(front, tmp_path) as known:
        front.go_away()
        front.api.put(endpoints("reviews", "10.0.0.3"))
        known.settles("reviews", "10.0.0.3:8080")
        assert front.connections == 2
        until(lambda: not known.problems())


def test_a_peer_that_vanishes_is_noticed_by_ping_and_followed_over_another_connection(front, tmp_path):
    with followed(front, tmp_path) as known:
        until(lambda: len(front.api.watches) >= 10)
        front.frozen = True
        for watch in list(front.api.watches):
            front.api.do(lambda watch=watch: front.api.cluster.listeners.remove(watch.told))
        front.api.put(endpoints("reviews", "10.0.0.4"))
        until(lambda: front.connections > 1)
        assert known.endpoints("reviews") == ["10.0.0.1:8080"], "the last good one meanwhile"
        front.frozen = False
        known.settles("reviews", "10.0.0.4:8080")
