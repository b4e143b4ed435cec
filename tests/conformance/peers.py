"""Real peers on loopback that say what they saw, over HTTP/1.1 and over HTTP/2 without TLS."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import h2.config
import h2.connection
import h2.events


class EchoHttp2:
    """An HTTP/2 server with prior knowledge; answers gRPC requests with an OK of their own kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            connection.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        protocol.initiate_connection()
        heads: dict[int, dict[str, str]] = {}
        try:
            connection.sendall(protocol.data_to_send())
            while data := connection.recv(65536):
                for event in protocol.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        heads[event.stream_id] = dict(event.headers)
                    elif isinstance(event, h2.events.StreamEnded):
                        self._answer(protocol, event.stream_id, heads.pop(event.stream_id))
                connection.sendall(protocol.data_to_send())
        except OSError:
            return

    def _answer(self, protocol: Any, stream: int, head: dict[str, str]) -> None:
        if head.get("content-type", "").startswith("application/grpc"):
            protocol.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            protocol.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            return
        headers = {name: value for name, value in head.items() if not name.startswith(":")}
        seen = {"method": head[":method"], "path": head[":path"], "headers": {"host": head[":authority"], **headers}}
        protocol.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        protocol.send_data(stream, json.dumps({"name": self.name, **seen}).encode(), end_stream=True)
