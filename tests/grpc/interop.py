"""The server side of the interop service: what each of its methods is publicly said to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc

from tests.grpc.messages import messages, services

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Interop(services.TestServiceServicer):
    """Sends what requests ask for, of the size they ask for, and echoes two entries of their metadata.

    Args:
        name: Told as ``server_id``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def EmptyCall(self, request: Any, context: Any) -> Any:
        """Nothing for nothing."""
        _echo(context)
        return messages.Empty()

    def UnaryCall(self, request: Any, context: Any) -> Any:
        """One payload of the size asked for; or the status asked for."""
        _echo(context)
        _end(request, context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        hostname = f"{os.getpid()}"
        return messages.SimpleResponse(payload=_payload(request.response_size), server_id=self.name, hostname=hostname)

    def StreamingInputCall(self, requests: Iterator[Any], context: Any) -> Any:
        """How many bytes of payload there were in all."""
        _echo(context)
        size = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=size)

    def StreamingOutputCall(self, request: Any, context: Any) -> Iterator[Any]:
        """A payload for each of the parameters."""
        _echo(context)
        _end(request, context)
        yield from _outputs(request, context)

    def FullDuplexCall(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """The answers to each request as soon as it is there."""
        _echo(context)
        for request in requests:
            _end(request, context)
            yield from _outputs(request, context)

    def HalfDuplexCall(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """All answers, once all requests are there."""
        _echo(context)
        for request in list(requests):
            yield from _outputs(request, context)

    def UnimplementedCall(self, request: Any, context: Any) -> Any:
        """The one method that no server has."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


def _payload(size: int) -> Any:
    return messages.Payload(body=bytes(size))


def _outputs(request: Any, context: Any) -> Iterator[Any]:
    gone = threading.Event()
    context.add_callback(gone.set)
    for parameters in request.response_parameters:
        if parameters.interval_us:
            time.sleep(parameters.interval_us / 1e6)
        if gone.is_set():
            return
        yield messages.StreamingOutputCallResponse(payload=_payload(parameters.size))


def _echo(context: Any) -> None:
    metadata = dict(context.invocation_metadata())
    if ECHO_INITIAL in metadata:
        context.send_initial_metadata(((ECHO_INITIAL, metadata[ECHO_INITIAL]),))
    if ECHO_TRAILING in metadata:
        context.set_trailing_metadata(((ECHO_TRAILING, metadata[ECHO_TRAILING]),))


def _end(request: Any, context: Any) -> None:
    if request.HasField("response_status"):
        asked = request.response_status
        context.abort(_CODES[asked.code], asked.message)
