"""The HTTP/2 session by itself: what may wait, what is due when, and that no bytes whatever confuse it."""

from __future__ import annotations

from random import Random

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import Http2KeepAlive
from meshlib.transport.base import Timeouts, WireError
from meshlib.transport.http2.frames import FLOOD, Frames, GoAway, Malformed
from meshlib.transport.http2.keepalive import Keepalive
from meshlib.transport.http2.session import Session
from meshlib.transport.http2.shelf import Shelf
from meshlib.transport.http2.stream import Stream
from meshlib.transport.http2.wire import SHARED_WINDOW, WINDOW
from tests.transport.http2_peer import frame

HEAD = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"svc"), (b":path", b"/")]
OK = frame(1, 4, 1, b"\x88")


def server() -> H2Connection:
    wire = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    wire.initiate_connection()
    return wire


def pair(count: int = 1) -> tuple[Session, H2Connection, list[Stream]]:
    """A session with so many streams open, and the server that saw them."""
    session, wire = Session(None, 0.0, lambda: None), server()
    wire.receive_data(session.outgoing())
    session.receive(wire.data_to_send(), 0.0)
    streams = [Stream(Timeouts()) for _ in range(count)]
    for stream in streams:
        session.open(stream, HEAD, end=True)
    wire.receive_data(session.outgoing())
    session.receive(wire.data_to_send(), 0.0)
    return session, wire, streams


def test_more_than_the_window_of_a_stream_ends_the_connection_and_no_more_than_it_waits():
    session, _, [stream] = pair()
    with pytest.raises(Malformed, match=r"[Ff]low control"):
        session.receive(OK + frame(0, 0, 1, b"x" * 16384) * 17, 0.0)
    assert sum(map(len, stream.chunks)) <= WINDOW


def test_a_window_is_given_back_as_the_caller_takes_and_not_before():
    session, _, [stream] = pair()
    session.receive(OK + frame(0, 0, 1, b"x" * 16384) * 16, 0.0)
    assert session.outgoing() == b""
    assert not session.take(stream, WINDOW // 2 - 1)
    assert session.take(stream, 1)
    assert frame(8, 0, 1, (WINDOW // 2).to_bytes(4, "big")) in session.outgoing()


def test_the_shared_window_is_given_back_at_once_and_padding_to_the_streams_window_too():
    session, _, streams = pair(20)
    session.receive(b"".join(frame(1, 4, 2 * each + 1, b"\x88") for each in range(20)), 0.0)
    for each in range(20):
        session.receive(frame(0, 8, 2 * each + 1, b"\xff" + b"x" * 15000 + bytes(255)) * 12, 0.0)
    assert frame(8, 0, 0)[3:9] in session.outgoing()
    assert SHARED_WINDOW // 2 < 20 * 12 * 15256
    assert streams[0].taken == 12 * 256
    assert streams[0].owed == 12 * 15256


def test_streams_that_were_not_flushed_were_not_sent():
    session, _, [early] = pair()
    late = Stream(Timeouts())
    session.open(late, HEAD, end=True)
    session.end("reset")
    assert early.error is not None
    assert late.error is not None
    assert (early.error.sent, late.error.sent) == (True, False)
    with pytest.raises(WireError):
        session.open(Stream(Timeouts()), HEAD, end=True)


def test_what_comes_late_for_a_stream_that_was_cancelled_disturbs_no_other():
    session, wire, streams = pair(40)
    for late in streams[:39]:
        session.cancel(late)
    session.open(Stream(Timeouts()), HEAD, end=True)  # the occasion on which h2 forgets those that are over
    session.outgoing()  # still on its way
    for stream in (*streams[:39], streams[39]):
        wire.send_headers(stream.id, [(b":status", b"200"), (b"x-remembered", b"%d" % stream.id)])
        wire.send_data(stream.id, b"body")
        wire.send_headers(stream.id, [(b"trailer", b"t")], end_stream=True)
    session.receive(bytes(wire.data_to_send()), 0.0)
    assert streams[39].headers == [(b"x-remembered", b"79")]
    assert streams[39].whole() == b"body"
    assert session.has_room


def test_goaway_is_taken_out_wherever_it_stands_and_a_second_one_may_only_take_less():
    session, _, streams = pair(4)
    away = frame(7, 0, 0, (5).to_bytes(4, "big") + bytes(4) + b"bye")
    for byte in OK + away:
        session.receive(bytes([byte]), 0.0)
    assert session.going == GoAway(5, 0, "bye")
    assert [each.error.failure if each.error else None for each in streams] == [None] * 3 + [Failure.REFUSED_STREAM]
    session.receive(frame(7, 0, 0, (1).to_bytes(4, "big") + (11).to_bytes(4, "big")), 0.0)
    assert [each.error is None for each in streams] == [True, False, False, False]
    session.receive(frame(0, 1, 1, b"all"), 0.0)
    assert streams[0].whole() == b"all"
    assert not session.streams


def test_frames_without_use_are_allowed_at_a_rate_and_bodies_sent_excuse_windows():
    frames = Frames(0.0)
    list(frames.feed(frame(4), 0.0))
    for second in range(1, 100):
        list(frames.feed(frame(6, 0, 0, bytes(8)) * 99, float(second)))
    for _ in range(FLOOD):
        frames.excuse()
        list(frames.feed(frame(8, 0, 0, b"\0\0\0\1") * 2, 99.0))
    with pytest.raises(Malformed, match="flood"):
        list(frames.feed(frame(8, 0, 0, b"\0\0\0\1") * FLOOD * 2, 99.0))


def test_probes_are_due_an_interval_after_the_answer_and_given_up_after_the_timeout():
    session, wire, _ = pair()
    probes = Keepalive(Http2KeepAlive(10.0, 3.0), session, 100.0)
    assert probes.due == 110.0
    assert probes.act(109.9)
    assert not session.pinged
    assert probes.act(110.0)
    assert (session.pinged, probes.due) == (True, 113.0)
    wire.receive_data(session.outgoing())
    session.receive(wire.data_to_send(), 111.0)
    assert probes.answered(111.0)
    assert probes.due == 121.0
    assert probes.act(121.0)
    assert not probes.answered(122.0)
    assert probes.act(123.9)
    assert not probes.act(124.0)
    assert Keepalive(None, session, 0.0).due is None


def test_a_shelf_offers_what_has_room_and_forgets_what_is_gone():
    class Each:
        is_shelved = False

    first, second, shelf = Each(), Each(), Shelf()
    assert shelf.first() is None
    for each in (first, second, first):
        shelf.put(each)
    assert shelf.first() is first
    shelf.set_aside(first)
    shelf.set_aside(first)
    assert shelf.first() is second
    shelf.put(first)
    shelf.forget(second)
    assert shelf.first() is first
    assert shelf.all == {first}


# Whatever comes -----------------------------------------------------------------------------------------------------


def an_answer() -> bytes:
    """What a proper server says to three streams."""
    _, wire, _ = pair(3)
    for stream in (1, 3, 5):
        wire.send_headers(stream, [(b":status", b"200"), (b"x", b"%d" % stream)])
        wire.send_data(stream, b"body of %d" % stream)
        wire.send_headers(stream, [(b"trailer", b"t")], end_stream=True)
    return bytes(wire.data_to_send())


ANSWER = an_answer()


def survives(data: bytes, cuts: list[int]) -> None:
    """Whatever comes, in whatever pieces: it is read or refused, and every stream has an end."""
    session, _, streams = pair(3)
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    try:
        for piece in pieces:
            session.receive(piece, 0.0)
    except Malformed as error:
        session.fail(Failure.PROTOCOL, str(error))
        session.say_goodbye(malformed=True)
    session.end()
    session.outgoing()
    assert not session.streams
    for stream in streams:
        assert stream.complete or stream.error is not None
        assert sum(map(len, stream.chunks)) <= WINDOW
    if data == ANSWER:
        assert [stream.whole() for stream in streams] == [b"body of 1", b"body of 3", b"body of 5"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_answers_are_read_or_refused_and_every_stream_ends(data):
    raw = bytearray(ANSWER)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["change", "drop", "insert"]))
        if kind == "change":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "drop":
            del raw[place]
        else:
            raw[place:place] = data.draw(st.binary(max_size=12))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    survives(bytes(raw), cuts)


@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=6), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_bodies_of_all_streams_arrive_whole_in_whatever_turns_they_are_sent(sizes, seed):
    random = Random(seed)  # one that hypothesis draws from would run out of luck on bodies of this size
    session, wire = Session(None, 0.0, lambda: None), server()
    wire.receive_data(session.outgoing())
    session.receive(wire.data_to_send(), 0.0)
    left = {}
    for size in sizes:
        stream = Stream(Timeouts())
        session.open(stream, HEAD, end=False)
        left[stream] = memoryview(random.randbytes(size))
    whole = {stream.id: bytes(data) for stream, data in left.items()}
    got: dict[int, bytes] = {}
    ended: set[int] = set()
    while left:
        stream = random.choice(list(left))
        left[stream] = left[stream][session.send(stream, left[stream][: random.randrange(1, 20_000)]) :]
        if not left[stream]:
            session.finish(stream)
            del left[stream]
        for event in wire.receive_data(session.outgoing()):
            if isinstance(event, DataReceived):
                got[event.stream_id] = got.get(event.stream_id, b"") + event.data
                wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                ended.add(event.stream_id)
            else:
                assert isinstance(event, RequestReceived) or event is not None
        session.receive(wire.data_to_send(), 0.0)
    assert got == whole
    assert ended == set(whole)
