"""gRPC's interop cases, by generated stubs over the channels of both stacks, against a server in another process."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from meshlib.testing import mesh_of
from tests.grpc.channels import CHANNELS
from tests.grpc.colours import STACKS
from tests.grpc.messages import messages, services
from tests.grpc.peers import world

REQUESTS, RESPONSES = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
WORDS = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture(params=CHANNELS)
def made(request, stack, peers):
    """A channel of that kind, to one server."""
    with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
        make = CHANNELS[request.param]
        with stack.client(lambda: make(mesh, stack.aio, peers["v1"].port)) as channel:
            yield channel


@pytest.fixture
def stub(made, stack):
    return stack.run(lambda: services.TestServiceStub(made))


def payload(size):
    return messages.Payload(body=bytes(size))


def output(*sizes, **fields):
    parameters = [messages.ResponseParameters(size=size) for size in sizes]
    return messages.StreamingOutputCallRequest(response_parameters=parameters, **fields)


def sizes(done):
    return [len(response.payload.body) for response in done.responses]


def test_empty_unary(stack, stub):
    done = stack.ask(stub.EmptyCall, "unary_unary", [messages.Empty()])
    assert (done.code, done.responses) == (grpc.StatusCode.OK, [messages.Empty()])


def test_large_unary(stack, stub):
    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    assert sizes(stack.ask(stub.UnaryCall, "unary_unary", [request])) == [314159]


def test_client_streaming(stack, stub):
    requests = [messages.StreamingInputCallRequest(payload=payload(size)) for size in REQUESTS]
    done = stack.ask(stub.StreamingInputCall, "stream_unary", requests)
    assert [response.aggregated_payload_size for response in done.responses] == [sum(REQUESTS)]


def test_server_streaming(stack, stub):
    done = stack.ask(stub.StreamingOutputCall, "unary_stream", [output(*RESPONSES)])
    assert (done.code, sizes(done)) == (grpc.StatusCode.OK, list(RESPONSES))


def test_ping_pong(stack, stub):
    call = stack.open(stub.FullDuplexCall, "stream_stream")
    for asked, answered in zip(REQUESTS, RESPONSES, strict=True):
        call.write(output(answered, payload=payload(asked)))
        assert len(call.read().payload.body) == answered
    call.done_writing()
    done = call.end()
    assert (done.code, done.responses) == (grpc.StatusCode.OK, [])


def test_half_duplex(stack, stub):
    done = stack.ask(stub.HalfDuplexCall, "stream_stream", [output(size) for size in RESPONSES])
    assert sizes(done) == list(RESPONSES)


def test_empty_stream(stack, stub):
    done = stack.ask(stub.FullDuplexCall, "stream_stream", [])
    assert (done.code, done.responses) == (grpc.StatusCode.OK, [])


def test_cancel_after_begin(stack, stub):
    call = stack.open(stub.StreamingInputCall, "stream_unary")
    call.cancel()
    assert call.end().code is grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(stack, stub):
    call = stack.open(stub.FullDuplexCall, "stream_stream", [output(31415, payload=payload(27182))])
    assert len(call.read().payload.body) == 31415
    call.cancel()
    assert call.end().code is grpc.StatusCode.CANCELLED


def test_timeout_on_sleeping_server(stack, stub):
    call = stack.open(
        stub.FullDuplexCall,
        "stream_stream",
        [messages.StreamingOutputCallRequest(payload=payload(27182))],
        timeout=0.05,
    )
    assert call.end().code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("words", ["test status message", WORDS])
@pytest.mark.parametrize("method", ["UnaryCall", "FullDuplexCall"])
def test_status_code_and_message(stack, stub, method, words):
    status = messages.EchoStatus(code=2, message=words)
    if method == "UnaryCall":
        done = stack.ask(stub.UnaryCall, "unary_unary", [messages.SimpleRequest(response_status=status)])
    else:
        done = stack.ask(stub.FullDuplexCall, "stream_stream", [output(response_status=status)])
    assert (done.code, done.details, done.responses) == (grpc.StatusCode.UNKNOWN, words, [])
    assert isinstance(done.error, grpc.RpcError)


def test_unimplemented_method(stack, stub):
    done = stack.ask(stub.UnimplementedCall, "unary_unary", [messages.Empty()])
    assert done.code is grpc.StatusCode.UNIMPLEMENTED


def test_unimplemented_service(stack, made):
    stub = stack.run(lambda: services.UnimplementedServiceStub(made))
    done = stack.ask(stub.UnimplementedCall, "unary_unary", [messages.Empty()])
    assert done.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["UnaryCall", "FullDuplexCall"])
def test_custom_metadata(stack, stub, method):
    metadata = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    if method == "UnaryCall":
        request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
        done = stack.ask(stub.UnaryCall, "unary_unary", [request], metadata=metadata)
    else:
        done = stack.ask(stub.FullDuplexCall, "stream_stream", [output(314159)], metadata=metadata)
    assert (done.initial[INITIAL], done.trailing[TRAILING]) == ("test_initial_metadata_value", b"\xab\xab\xab")


def test_compression(stack, stub):
    request = messages.SimpleRequest(
        response_size=314159, payload=payload(271828), response_compressed=messages.BoolValue(value=True)
    )
    done = stack.ask(stub.UnaryCall, "unary_unary", [request], compression=grpc.Compression.Gzip)
    assert sizes(done) == [314159]
    streamed = [messages.StreamingInputCallRequest(payload=payload(size)) for size in REQUESTS]
    done = stack.ask(stub.StreamingInputCall, "stream_unary", streamed, compression=grpc.Compression.Gzip)
    assert [response.aggregated_payload_size for response in done.responses] == [sum(REQUESTS)]


def test_concurrent_calls_do_not_mix(stack, stub):
    calls = [stack.open(stub.StreamingOutputCall, "unary_stream", [output(size, size + 1)]) for size in range(20)]
    assert [sizes(call.end()) for call in calls] == [[size, size + 1] for size in range(20)]
