"""What a server adds to the mesh: its load in trailers and out of band, and an end that fails no call."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import h2.connection
import h2.events
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshlib.dataplane.balancing.load_report import decode, report_in
from meshlib.grpc.load_report import LoadRecorder, encode, text
from meshlib.grpc.load_service import METHOD, read_interval
from meshlib.grpc.server import AioLoadReports, AioServerContext, ServerLoad, adrain, call_load, drain, load_service
from tests.grpc.peers import Peer

REPORT = LoadRecorder(
    cpu_utilization=0.5,
    mem_utilization=0.25,
    application_utilization=1.5,
    rps_fractional=120.0,
    eps=3.0,
    request_cost={"db": 4.0},
    utilization={"disk": 0.75},
    named_metrics={"queue": 200.0},
)


def read(report):
    numbers = ("cpu_utilization", "mem_utilization", "application_utilization", "rps_fractional", "eps")
    return {name: getattr(report, name) for name in numbers} | dict(report.maps)


SAID = {
    "cpu_utilization": 0.5,
    "mem_utilization": 0.25,
    "application_utilization": 1.5,
    "rps_fractional": 120.0,
    "eps": 3.0,
    "request_cost.db": 4.0,
    "utilization.disk": 0.75,
    "named_metrics.queue": 200.0,
}


def test_both_forms_of_a_report_are_read_as_they_were_meant():
    assert read(decode(encode(REPORT))) == SAID
    found = report_in([(b"endpoint-load-metrics", text(REPORT).encode())])
    assert found is not None
    assert read(found) == SAID


def test_a_report_is_read_by_generated_code_too():
    orca = pytest.importorskip("xds.data.orca.v3.orca_load_report_pb2")
    message = orca.OrcaLoadReport.FromString(encode(REPORT))
    assert (message.cpu_utilization, message.rps_fractional, message.eps) == (0.5, 120.0, 3.0)
    assert (dict(message.request_cost), dict(message.named_metrics)) == ({"db": 4.0}, {"queue": 200.0})
    assert (message.application_utilization, dict(message.utilization)) == (1.5, {"disk": 0.75})


def test_nothing_is_said_by_a_report_of_nothing_and_no_odd_name_breaks_the_text():
    assert (encode(LoadRecorder()), text(LoadRecorder())) == (b"", "")
    assert text(LoadRecorder(named_metrics={"a,b=c": 1.0})) == ""


def test_a_call_says_what_it_knows_and_the_server_the_rest():
    load = ServerLoad()
    load.update(cpu_utilization=0.5, rps_fractional=10, named_metrics={"a": 1.0})
    whole = LoadRecorder(cpu_utilization=0.9, named_metrics={"b": 2.0}).over(load.report())
    assert (whole.cpu_utilization, whole.rps_fractional, whole.named_metrics) == (0.9, 10, {"a": 1.0, "b": 2.0})
    load.update(eps=1.0)
    assert (load.report().cpu_utilization, load.report().eps) == (0.5, 1.0)
    with pytest.raises(ValueError, match="cpu_utilization is -1"):
        load.update(cpu_utilization=-1)


@pytest.mark.parametrize("method", ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"])
@pytest.mark.parametrize("asked", [(), (("code", "14"), ("after", "1")), (("code", "14"),)])
def test_every_kind_of_call_reports_however_it_ends(peers, method, asked):
    if method.endswith("Unary") and asked:
        asked = (("code", "14"),)
    trailers = trailers_of(peers["v1"].port, f"/test.S/{method}", [("orca", "0.5/100"), ("trailer", "own"), *asked])
    found = report_in([pair for pair in trailers.items() if pair[0] == b"endpoint-load-metrics-bin"])
    assert found is not None
    assert (found.cpu_utilization, found.rps_fractional) == (0.5, 100.0)
    assert trailers[b"endpoint-load-metrics"] == b"TEXT cpu_utilization=0.5,rps_fractional=100"
    assert (trailers[b"trailer"], trailers[b"grpc-status"]) == (b"own", b"14" if asked else b"0")


def trailers_of(port, path, metadata):
    """The trailers of a call as they come off the wire, where nothing has been taken out yet."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    fixed = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path), ("te", "trailers")]
    connection.send_headers(1, [*fixed, ("content-type", "application/grpc"), *metadata])
    connection.send_data(1, bytes(5), end_stream=True)
    found = {}
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        while True:
            sock.sendall(connection.data_to_send())
            for event in connection.receive_data(sock.recv(65536)):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    found.update(event.headers)
                if isinstance(event, h2.events.StreamEnded):
                    return found


def test_the_load_is_told_out_of_band_as_often_as_is_asked(peers):
    peer = peers["v1"]
    peer.ask("load 0.25 40")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{peer.port}") as channel:
            call = channel.unary_stream(METHOD)(
                b"\x0a\x05\x10\x80\xad\xe2\x04", timeout=30
            )  # 10 ms, of which 50 are made
            first = next(call)
            peer.ask("load 0.75 40")
            changed = next(report for report in call if report != first)
            call.cancel()
            bad = channel.unary_stream(METHOD)(b"\x0a\x7f", timeout=30)
            with pytest.raises(grpc.RpcError) as caught:
                next(bad)
    finally:
        peer.ask("load 0 0")
    assert (decode(first).cpu_utilization, decode(changed).cpu_utilization) == (0.25, 0.75)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_interval_is_read_as_generated_code_writes_it():
    service = pytest.importorskip("xds.service.orca.v3.orca_pb2")
    request = service.OrcaLoadReportRequest()
    request.report_interval.FromMilliseconds(12_500)
    assert (read_interval(request.SerializeToString()), read_interval(b"")) == (12.5, 0.0)


# grpc.aio -----------------------------------------------------------------------------------------------------------


class Aio(grpc.GenericRpcHandler):
    """Reports, and ends well or badly, as the method's name says."""

    def service(self, details):
        async def unary(request, context):
            call_load().cpu_utilization = 0.5
            if b"bad" in request:
                await context.abort(grpc.StatusCode.ABORTED, "bad", (("own", "x"),))
            return request

        async def stream(request, context):
            call_load().cpu_utilization = 0.5
            yield request
            await asyncio.sleep(0)
            if b"bad" in request:
                await context.abort(grpc.StatusCode.ABORTED, "bad", (("own", "x"),))

        def threaded(request, context):
            call_load().cpu_utilization = 0.5
            return request

        made = {
            "unary": grpc.unary_unary_rpc_method_handler(unary),
            "stream": grpc.unary_stream_rpc_method_handler(stream),
        }
        made["threaded"] = grpc.unary_unary_rpc_method_handler(threaded)
        return made.get(details.method.rpartition("/")[2])


def test_an_aio_server_reports_in_trailers_and_out_of_band():
    async def main():
        load = ServerLoad(min_interval=0.01)
        load.update(rps_fractional=7)
        server = grpc.aio.server(interceptors=[AioServerContext(), AioLoadReports(load)])
        server.add_generic_rpc_handlers((Aio(), load_service(load, aio=True)))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for method in ("unary", "threaded"):
                call = channel.unary_unary(f"/s/{method}")(b"ok", timeout=30)
                await call
                found.append(dict(await call.trailing_metadata()))
            stream = channel.unary_stream("/s/stream")(b"ok", timeout=30)
            assert [each async for each in stream] == [b"ok"]
            found.append(dict(await stream.trailing_metadata()))
            for shape, method in ((channel.unary_unary, "unary"), (channel.unary_stream, "stream")):
                call = shape(f"/s/{method}")(b"bad", timeout=30)
                if method == "stream":
                    assert await call.read() == b"bad"
                assert await call.code() is grpc.StatusCode.ABORTED
                found.append(dict(await call.trailing_metadata()))
            told = channel.unary_stream(METHOD)(b"", timeout=30)
            reports = [await told.read(), await told.read()]
            told.cancel()
        await adrain(server, grace=5)
        return found, reports

    found, reports = asyncio.run(main())
    assert [each["endpoint-load-metrics"] for each in found] == ["TEXT cpu_utilization=0.5,rps_fractional=7"] * 5
    assert [each.get("own") for each in found] == [None, None, None, "x", "x"]
    assert [decode(report).rps_fractional for report in reports] == [7.0, 7.0]
    assert call_load() is None


# Draining -----------------------------------------------------------------------------------------------------------


def test_draining_says_so_first_and_lets_what_runs_run_out():
    running, may_end = threading.Event(), threading.Event()

    def slow(request, context):
        running.set()
        assert may_end.wait(30)
        return b"done"

    handler = grpc.method_handlers_generic_handler("s", {"slow": grpc.unary_unary_rpc_method_handler(slow)})
    checks = health.HealthServicer()
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        asked = channel.unary_unary("/s/slow").future(b"", timeout=30)
        assert running.wait(30)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        thread = threading.Thread(target=drain, args=(server,), kwargs={"grace": 30, "notice": 0.2, "health": checks})
        thread.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        while True:  # still served while the notice lasts, refused afterwards
            try:
                channel.unary_unary("/s/absent")(b"", timeout=1)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    break
            time.sleep(0.01)
        assert thread.is_alive()
        may_end.set()
        assert asked.result(30) == b"done"
        thread.join(30)
        assert not thread.is_alive()


def test_a_process_that_drains_fails_no_call_under_way():
    peer = Peer("draining")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{peer.port}") as channel:
            asked = channel.unary_unary("/test.S/UnaryUnary").future(b"", metadata=(("delay", "0.3"),), timeout=30)
            while not peer.ask("active"):
                time.sleep(0.01)
            peer.ask("drain 20")
            assert b"draining" in asked.result(30)
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/test.S/UnaryUnary")(b"", timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        peer.stop()
