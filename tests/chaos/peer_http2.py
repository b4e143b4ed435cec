"""The HTTP/2 side of ``peer.py``, with prior knowledge: one connection, its streams, and how they are turned away."""

from __future__ import annotations

import asyncio
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded

_TAKEN = 5
"""Streams that are answered before ``goaway`` says that no more are."""


async def serve(mode: str, processed: Counter[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: ``ok``, ``goaway``, ``refused-stream`` (each second) or ``reset-stream`` (once acted upon)."""
    wire = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    wire.initiate_connection()
    writer.write(wire.data_to_send())
    ids: dict[int, str] = {}
    seen: list[int] = []
    while data := await reader.read(65536):
        for event in wire.receive_data(data):
            if isinstance(event, RequestReceived):
                ids[event.stream_id] = dict(event.headers)["x-id"]
            elif isinstance(event, DataReceived):
                wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                seen.append(event.stream_id)
                _decide(wire, mode, processed, ids[event.stream_id], seen)
        writer.write(wire.data_to_send())
        await writer.drain()
        last = _last(seen)
        if mode == "goaway" and last and all(stream in seen for stream in ids if stream <= last):
            _go_away(wire, last, writer)
            await asyncio.sleep(0.05)
            return


def _decide(wire: H2Connection, mode: str, processed: Counter[str], name: str, seen: list[int]) -> None:
    """Answer the last stream seen, or turn it away."""
    stream, number = seen[-1], len(seen)
    if mode == "goaway" and number > _TAKEN and stream > _last(seen):
        return
    if mode == "refused-stream" and number % 2 == 0:
        wire.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        return
    processed[name] += 1
    if mode == "reset-stream":
        wire.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        return
    wire.send_headers(stream, [(":status", "200"), ("content-length", "2")])
    wire.send_data(stream, b"ok", end_stream=True)


def _last(seen: list[int]) -> int:
    """The highest stream among the first that ended, which need not end in the order of their numbers; else 0."""
    return max(seen[:_TAKEN]) if len(seen) >= _TAKEN else 0


def _go_away(wire: H2Connection, last: int, writer: asyncio.StreamWriter) -> None:
    wire.close_connection(ErrorCodes.NO_ERROR, last_stream_id=last)
    writer.write(wire.data_to_send())
