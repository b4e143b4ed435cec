"""What a served request hands on to the calls made while it is served: its deadline, its ids, its routing headers.

    app = AsgiContext(app, headers=["end-user"])     # or WsgiContext; gRPC servers: meshlib.context.grpc
    with deadline(0.5): ...                          # calls in this block end in time; the tighter of several counts
    with detached(): create_task(clean_up())         # work that outlives the request

It lives in a context variable: tasks, ``asyncio.to_thread`` and ``anyio.to_thread.run_sync`` inherit it when they are
started, ``threading.Thread`` and executors do not (``contextvars.copy_context().run`` hands it over). Calls to hosts
that the mesh does not know get none of it.
"""

from __future__ import annotations

from meshlib.context.asgi import AsgiContext
from meshlib.context.current import Context, Deadline, current, deadline, detached, remaining
from meshlib.context.incoming import Incoming
from meshlib.context.wsgi import WsgiContext

__all__ = [
    "AsgiContext",
    "Context",
    "Deadline",
    "Incoming",
    "WsgiContext",
    "current",
    "deadline",
    "detached",
    "remaining",
]
