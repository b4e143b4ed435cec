"""A real DNS server on loopback, UDP and TCP on one port, that answers by script and notes what it was asked."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT, GARBAGE, SERVFAIL, NXDOMAIN, TRUNCATED, DRIP = "silent", "garbage", "SERVFAIL", "NXDOMAIN", "truncated", "drip"


class DnsServer:
    """Answers by ``self.zone``: (name, type) -> a list of (ttl, value), or one of the words above.

    Attributes:
        zone: May be changed at any time.
        asked: Every question: (name, type, ``udp`` or ``tcp``).
    """

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, str]] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, name: str, kind: str = "A") -> int:
        return sum((n, k) == (name, kind) for n, k, _ in self.asked)

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes its thread; that of UDP even though it says "not connected"
            sock.close()
        for thread in self._threads:
            thread.join(5.0)

    def __enter__(self) -> DnsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                raw, peer = self._udp.recvfrom(4096)
                for part in self._reply(raw, "udp") if raw else ():
                    self._udp.sendto(part, peer)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                connection.settimeout(2.0)
                (length,) = struct.unpack("!H", connection.recv(2))
                query = connection.recv(length)
                for part in self._reply(query, "tcp"):
                    self._send(connection, struct.pack("!H", len(part)) + part)

    def _send(self, connection: socket.socket, whole: bytes) -> None:
        step = 1 if DRIP in self.zone.values() else len(whole)
        for start in range(0, len(whole), step):
            connection.sendall(whole[start : start + step])
            if step == 1:
                time.sleep(0.05)

    def _reply(self, raw: bytes, by: str) -> list[bytes]:
        query = dns.message.from_wire(raw)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, by))
        said = self.zone.get((name, kind))
        if said == SILENT:
            return []
        if said == GARBAGE:
            return [b"\xff" * 40]
        reply = dns.message.make_response(query)
        if said == DRIP and by == "udp":
            reply.flags |= dns.flags.TC
            return [reply.to_wire()]
        if isinstance(said, tuple):  # truncated over UDP, whole over TCP
            word, said = said
            if word == TRUNCATED and by == "udp":
                reply.flags |= dns.flags.TC
                return [reply.to_wire()]
        if said in (SERVFAIL, NXDOMAIN):
            reply.set_rcode(dns.rcode.from_text(said))
        elif said is None:
            known = any(n == name for n, _ in self.zone)
            reply.set_rcode(dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN)
        for ttl, value in said if isinstance(said, list) else ():
            reply.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, value))
        return [reply.to_wire()]
