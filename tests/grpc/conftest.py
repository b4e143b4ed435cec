"""Servers for the tests of gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grpc.peers import Peer


@pytest.fixture(scope="session")
def shared_peers() -> Iterator[dict[str, Peer]]:
    """Three servers for all tests."""
    peers = {name: Peer(name) for name in ("v1", "v2", "v3")}
    yield peers
    for peer in peers.values():
        peer.stop()


@pytest.fixture
def peers(shared_peers: dict[str, Peer]) -> dict[str, Peer]:
    """The three servers, with nothing seen."""
    for peer in shared_peers.values():
        peer.ask("forget")
    return shared_peers
