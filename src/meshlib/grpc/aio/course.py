"""Courses on ``grpc.aio`` channels: everything happens in the event loop that the RPC was begun in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import grpc

from meshlib.dataplane.attempt import Attempt
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import cooperative, cooperative_attempt
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies import rate_limit
from meshlib.dataplane.reply import LocalReply
from meshlib.errors import MeshError
from meshlib.grpc.aio.exchange import AioUnaryExchange, mirror
from meshlib.grpc.aio.messages import IteratedMessages, WrittenMessages
from meshlib.grpc.course import Course
from meshlib.grpc.failures import answered, peer_error, translated
from meshlib.grpc.message_replay import KeptMessages
from meshlib.grpc.outcomes import OK
from meshlib.grpc.rpc import authority_of, metadata_of
from meshlib.grpc.subchannels import Subchannel
from meshlib.grpc.unary import FRAME, Sent, ended
from meshlib.grpc.unheard import UnheardCall
from meshlib.grpc.ways import Ways

__all__ = ["LoopCourse", "ready"]


def ready(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that need not wait; None where it would."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    except grpc.RpcError:
        return None
    coroutine.close()
    return None


class LoopCourse(Course):
    """See ``Course``.

    Attributes:
        awaited: How many tasks await the message of a unary answer; each tells of its end by itself.
        message: It, once it was seen.
    """

    def __init__(self, ways: Ways, sent: Sent, begin: Callable[[], Call], source: bytes | KeptMessages) -> None:
        super().__init__(ways, sent, begin, source)
        self.loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.awaited = 0
        self.message: bytes | None = None

    # What the caller's tasks wait for ---------------------------------------------------------------------------------

    async def current(self) -> Any:
        """The real call of the attempt under way or of the last, waiting for the next; None at an early end."""
        while self.real is None and not self.ended:
            await self._move()
        return self.real

    async def pass_by(self, real: Any) -> None:
        """Wait until it is decided what comes after ``real``, which has ended."""
        self.over(real)
        while self.real is real and not self.ended:
            await self._move()

    async def wait(self) -> None:
        """Wait for the end."""
        while not self.ended:
            await self._move()

    async def _move(self) -> None:
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(future)
        await future

    # See ``Course`` ---------------------------------------------------------------------------------------------------

    def dial(self, attempt: Attempt) -> tuple[Any, Subchannel]:
        """See ``Course``."""
        call, sent, ways, source = self.call, self.sent, self.ways, self.source
        target, headers = call.head(attempt)
        kind = sent.kind
        bounded = attempt.deadline_is_overall or not kind.endswith("stream")
        until = attempt.deadline if bounded else call.deadline
        timeout = None if until is None else until - self.clock.now()
        subchannel = ways.subchannel(attempt, authority_of(headers, ways.service.authority))
        stub = subchannel.stub(kind, target, sent.registered)
        try:
            real = stub(
                *self._requests(call, source),
                timeout=timeout,
                metadata=metadata_of(headers),
                credentials=sent.credentials,
                compression=sent.compression,
            )
        except BaseException:
            subchannel.leave()
            raise
        if isinstance(source, WrittenMessages) and (source.kept or source.ended):
            self._run(self._send_again(real, source))
        return real, subchannel

    @staticmethod
    def _requests(call: Call, source: bytes | KeptMessages) -> tuple[Any, ...]:
        if isinstance(source, IteratedMessages):
            return (source.messages(),)
        if isinstance(source, KeptMessages):
            return ()
        call.request_bytes += len(source) + FRAME
        call.request_messages += 1
        return (source,)

    async def _send_again(self, real: Any, source: WrittenMessages) -> None:
        """A further attempt is given what was written before."""
        async with source.lock:
            try:
                await source.send_kept(real)
                if source.ended:
                    await source.close(real)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # its end tells more

    def watch(self, real: Any) -> None:
        """See ``Course``; the message of a unary call is there one step of the loop later."""
        real.add_done_callback(partial(self._done, real))

    def _done(self, real: Any, _: Any) -> None:
        if not self.awaited:
            self.loop.call_soon(self.over, real)

    def end_of(self, real: Any, attempt: Attempt, now: float) -> Outcome:
        """See ``Course``."""
        call, unary = self.call, self.sent.kind.endswith("unary")
        code = ready(real.code()) if self.message is None else grpc.StatusCode.OK
        if code is grpc.StatusCode.OK:
            if unary:
                message = self.message if self.message is not None else ready(_awaited(real))
                call.response_bytes += FRAME + ((self.weigh(message) or 0) if message is not None else 0)
                call.response_messages += 1
            return OK
        words = ready(real.details()) or ""
        initial, trailing = ready(real.initial_metadata()) or (), ready(real.trailing_metadata()) or ()
        code = code or grpc.StatusCode.UNKNOWN
        error = peer_error(code, words, (tuple(initial), tuple(trailing)), aio=True)
        cancelled = self.cancelled and not self._late
        return ended(attempt, code, words, [*initial, *trailing], now, cancelled=cancelled, error=error)

    def trailing(self, real: Any) -> Any:
        """See ``Course``."""
        return ready(real.trailing_metadata())

    def words_of(self, real: Any) -> str:
        """See ``Course``."""
        return ready(real.details()) or ""

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """See ``Course``."""
        self._run(self._after(seconds, work))

    async def _after(self, seconds: float, work: Callable[[], None]) -> None:
        if seconds > 0:
            await self.clock.asleep(seconds)
        work()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hear(self, call: UnheardCall) -> None:
        """See ``Course``."""
        self._run(self._hear(call))

    async def _hear(self, call: UnheardCall) -> None:
        try:
            await call.wait_aside(self.ways.mesh)
        except MeshError as error:
            self.heard(call, error)
        else:
            self.heard(call, None)

    def prelude(self) -> None:
        """See ``Course``."""
        self._run(self._prelude())

    async def _prelude(self) -> None:
        call, clock = self.call, self.clock
        if call.delay:
            await clock.asleep(call.within(call.delay, clock.now()))
        try:
            question = rate_limit.count(call, clock.now()) if call.limiter is not None else None
            if question is not None:
                left = call.within(question.service.timeout, clock.now())
                mesh = self.ways.mesh
                rate_limit.judge(call, await self.ways.services.aask(question, left, mesh.cooperative))
        except MeshError as error:
            self.fail(error)
            return
        self.after_prelude()

    def pass_gate(self, attempt: Attempt) -> None:
        """See ``Course``."""
        self._run(self._pass_gate(attempt))

    async def _pass_gate(self, attempt: Attempt) -> None:
        try:
            await cooperative_attempt.pass_gate(self.call, attempt, None, self.clock)
        except MeshError as error:
            self.fail(error)
            return
        self.send(attempt)

    def race(self) -> None:
        """See ``Course``."""
        self._run(self._race())

    async def _race(self) -> None:
        call, source = self.call, self.source
        assert isinstance(source, bytes)
        exchange = AioUnaryExchange(self.ways, call, source, self.sent)
        racing = self.loop.create_task(cooperative.drive(call, exchange, self.clock))
        self.on_end(partial(_cancel, racing))
        try:
            reply: Any = await racing
        except MeshError as error:
            made = translated(error, call, aio=True)
            self.finish(made, made.code().value[0])
        except grpc.RpcError as error:
            failed: Any = error
            self.finish(failed, failed.code().value[0])
        except asyncio.CancelledError:
            self.cancel()
        else:
            if isinstance(reply, LocalReply):
                call.answer = reply
                made = answered(call, metadata_of(call.response_headers(reply.headers)), aio=True)
                self.finish(made, made.code().value[0])
            else:
                self.real = self._judged = reply[1]
                self.finish(None, 0)

    def changed(self) -> None:
        """See ``Course``."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def abandon(self) -> None:
        """See ``Course``; whichever thread collects."""
        if self.ended:
            return
        try:
            self.loop.call_soon_threadsafe(self.cancel)
        except RuntimeError:  # the loop is closed, and with it the real call
            self.call.abandon(self.clock.now())

    def mirror(self, messages: list[bytes]) -> None:
        """See ``Course``."""
        mirror(self.ways, self.call, messages, self.sent)


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def _awaited(real: Any) -> Any:
    return await real
