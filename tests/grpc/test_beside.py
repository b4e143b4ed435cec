"""gRPC's own services beside the mesh: health as active check, channelz and client status."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_channelz.v1.channelz
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_csds import add_csds_servicer

from tests.grpc.colours import STACKS
from tests.grpc.table import Table, client_policy, destination_rule

CSDS = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


def test_an_endpoint_whose_health_service_says_no_is_not_picked_until_it_says_yes(stack, peers):
    table = Table(stack, "UnaryUnary", "mesh", peers)
    check = client_policy(
        "healthCheck: {grpc: {}, interval: 50ms, timeout: 5s, unhealthyThreshold: 1, healthyThreshold: 1}"
    )
    for peer in (peers["v1"], peers["v2"]):
        peer.ask("health SERVING")
    round_robin = destination_rule("{loadBalancer: {simple: ROUND_ROBIN}}")
    with table.over(check, round_robin):
        assert set(table.names(4)) == {"v1", "v2"}
        peers["v1"].ask("health NOT_SERVING")
        assert eventually(lambda: table.names(4) == {"v2": 4})
        peers["v1"].ask("health SERVING")
        assert eventually(lambda: table.names(4) == {"v1": 2, "v2": 2})


def eventually(holds):
    until = time.monotonic() + 40
    while time.monotonic() < until:
        if holds():
            return True
    return False


def test_channelz_shows_the_real_channels_and_client_status_answers(peers):
    server = grpc.server(ThreadPoolExecutor(2))
    grpc_channelz.v1.channelz.add_channelz_servicer(server)
    add_csds_servicer(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    table = Table(STACKS[0](), "UnaryUnary", "mesh", peers)
    try:
        with table.over(of="v1"), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert table.ask().code is grpc.StatusCode.OK
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            told = stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=30).channel
            ours = [each.data for each in told if each.data.target.endswith(f"127.0.0.1:{peers['v1'].port}")]
            assert 1 in [each.calls_succeeded for each in ours]
            assert channel.unary_unary(CSDS)(b"", timeout=30) is not None
    finally:
        server.stop(None).wait(30)
