"""An HTTP/2 server in a process of its own that breaks RPCs on the wire, each in the way that its method names.

``python -m tests.grpc.breaking`` prints its port and serves until there is no more input. ``/break.S/<way>`` breaks the
first attempt of an RPC; a further one (``x-envoy-attempt-count``), and every RPC of the way ``not``, is answered with
its number. ``leaving`` says good-bye in the middle of an answer, and gives it to its end.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

import h2.config
import h2.connection
import h2.events

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]


class Connection:
    """One connection."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.answers: dict[int, bytes] = {}

    def run(self) -> None:
        """Serve until it breaks or the peer has gone."""
        self.http.initiate_connection()
        self.flush()
        try:
            while data := self.wire.recv(65536):
                for event in self.http.receive_data(data):
                    self.hear(event)
                self.flush()
        except (OSError, h2.exceptions.ProtocolError):
            return
        finally:
            self.wire.close()

    def hear(self, event: object) -> None:
        """Break what is asked, or answer it when it has ended."""
        if isinstance(event, h2.events.RequestReceived) and event.stream_id is not None:
            headers = dict(event.headers or ())
            way, attempt = headers[b":path"].decode().rpartition("/")[2], headers.get(b"x-envoy-attempt-count", b"1")
            if way == "not" or attempt != b"1":
                self.answers[event.stream_id] = attempt
            else:
                getattr(self, way)(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self.answers:
            self.http.send_headers(event.stream_id, ANSWER)
            self.http.send_data(event.stream_id, message(self.answers.pop(event.stream_id)))
            self.http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)

    def flush(self) -> None:
        """Send what is to be sent."""
        if data := self.http.data_to_send():
            self.wire.sendall(data)

    # The ways -------------------------------------------------------------------------------------------------------

    def refused(self, stream: int) -> None:
        """REFUSED_STREAM."""
        self.http.reset_stream(stream, 7)

    def reset(self, stream: int) -> None:
        """INTERNAL_ERROR."""
        self.http.reset_stream(stream, 2)

    def reset_late(self, stream: int) -> None:
        """The same, after the headers of an answer."""
        self.http.send_headers(stream, ANSWER)
        self.http.reset_stream(stream, 2)

    def turned_away(self, stream: int) -> None:
        """GOAWAY that has not looked at the stream."""
        self.good_bye(stream - 1)

    def gone_away(self, stream: int) -> None:
        """GOAWAY that has, and then nothing more."""
        self.http.close_connection(0, last_stream_id=stream)
        self.closed(stream)

    def leaving(self, stream: int) -> None:
        """GOAWAY in the middle of an answer, which is given to its end."""
        self.http.send_headers(stream, ANSWER)
        self.http.send_data(stream, message(b"1"))
        self.good_bye(stream)
        self.http.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    def good_bye(self, last: int) -> None:
        """GOAWAY, after which the connection goes on, as h2 would not let it."""
        self.flush()
        self.wire.sendall(struct.pack("!I", 8)[1:] + b"\x07\0\0\0\0\0" + struct.pack("!II", last, 0))

    def closed(self, stream: int) -> None:
        """The end of the connection."""
        self.flush()
        self.wire.shutdown(socket.SHUT_RDWR)

    def cut(self, stream: int) -> None:
        """A reset of the connection below HTTP."""
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wire.close()

    def garbage(self, stream: int) -> None:
        """What is no HTTP/2."""
        self.wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.closed(stream)

    def http_503(self, stream: int) -> None:
        """What a proxy says that knows nothing of gRPC."""
        self.http.send_headers(stream, [(":status", "503"), ("content-type", "text/plain")], end_stream=True)

    def trailers_only(self, stream: int) -> None:
        """A status in the headers, as a proxy makes it that knows gRPC."""
        answer = [*ANSWER, ("grpc-status", "14"), ("grpc-message", "no healthy upstream")]
        self.http.send_headers(stream, answer, end_stream=True)


def message(content: bytes) -> bytes:
    """A message of gRPC."""
    return b"\0" + struct.pack("!I", len(content)) + content


def main() -> None:
    """Serve until there is no more input."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)

        def serve() -> None:
            while True:
                wire, _ = listening.accept()
                threading.Thread(target=Connection(wire).run, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
