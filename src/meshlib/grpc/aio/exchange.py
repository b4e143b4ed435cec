"""One RPC as the cooperative driver asks for it: hedged calls, and copies for mirrors."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from meshlib.dataplane import router
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.drivers import cooperative
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.rate_limit import Question, Verdict
from meshlib.dataplane.reply import LocalReply
from meshlib.grpc.aio.messages import EOF
from meshlib.grpc.outcomes import OK
from meshlib.grpc.rpc import authority_of, metadata_of
from meshlib.grpc.unary import FRAME, Sent, UnaryReading
from meshlib.grpc.ways import Ways

__all__ = ["AioUnaryExchange", "mirror"]


class AioUnaryExchange(UnaryReading):
    """The reply is (bytes, the real call)."""

    keeps_deadlines = True

    async def send(self, call: Call, attempt: Attempt) -> Any:
        """See ``AsyncExchange.send``."""
        target, headers = call.head(attempt)
        call.request_bytes += len(self.content) + FRAME
        call.request_messages += 1
        ways, sent = self.ways, self.sent
        timeout = None if attempt.deadline is None else attempt.deadline - self._clock.now()
        subchannel = ways.subchannel(attempt, authority_of(headers, ways.service.authority))
        try:
            stub = subchannel.stub(sent.kind, target, sent.registered)
            return await self._ask(stub, timeout, metadata_of(headers))
        finally:
            subchannel.leave()

    async def _ask(self, stub: Any, timeout: float | None, metadata: Any) -> Any:
        sent = self.sent
        real = stub(
            self.content,
            timeout=timeout,
            metadata=metadata,
            credentials=sent.credentials,
            compression=sent.compression,
        )
        return await real, real

    def classify(self, attempt: Attempt, reply: Any) -> Outcome:
        """See ``AsyncExchange.classify``."""
        if isinstance(reply, LocalReply):
            return Outcome.of_status(reply.status, grpc_status=reply.grpc_status)
        return OK

    async def ask(self, question: Question, seconds: float) -> Verdict:
        """See ``AsyncExchange.ask``."""
        return await self.ways.services.aask(question, seconds, self.ways.mesh.cooperative)

    def branch(self) -> Self:
        """See ``AsyncExchange.branch``."""
        return type(self)(self.ways, self.call, self.content, self.sent)

    async def discard(self, reply: Any) -> None:
        """Nothing is open behind a reply."""


class _Copy(AioUnaryExchange):
    """Sends all messages and reads whatever comes."""

    def __init__(self, ways: Ways, copy: Call, messages: list[bytes], sent: Sent) -> None:
        super().__init__(ways, copy, b"".join(messages), sent)
        self._messages = messages

    async def _ask(self, stub: Any, timeout: float | None, metadata: Any) -> Any:
        sent, messages = self.sent, self._messages
        request: Any = iter(messages) if sent.kind.startswith("stream") else messages[0]
        real = stub(request, timeout=timeout, metadata=metadata, credentials=sent.credentials)
        if sent.kind.endswith("unary"):
            return await real, real
        size = b""
        while (message := await real.read()) is not EOF:
            size = message
        return size, real


def mirror(ways: Ways, call: Call, messages: list[bytes], sent: Sent) -> None:
    """Send the copies of an RPC whose messages are at hand."""
    mesh = ways.mesh
    for copy in router.copies(call, mesh.clock.now(), mesh.rng):
        mesh.mirrors.in_task(partial(_send, ways, copy, messages, sent))


async def _send(ways: Ways, copy: Call, messages: list[bytes], sent: Sent) -> None:
    await cooperative.drive(copy, _Copy(ways, copy, messages, sent), ways.mesh.clock)
