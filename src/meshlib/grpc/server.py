"""What a gRPC server adds to the mesh: the context of its calls, reports of its load, and an end that fails no call.

    load = ServerLoad()
    server = grpc.server(executor, interceptors=[ServerContext(headers=["end-user"]), LoadReports(load)])
    server.add_generic_rpc_handlers((load_service(load),))    # for clients that want load reports out of band
    ...
    load.update(cpu_utilization=0.4, rps_fractional=120)       # now and then
    call_load().request_cost["db"] = 3                        # in a method: reported with this very call
    ...
    drain(server, grace=30, notice=5, health=health_servicer)  # on SIGTERM

For ``grpc.aio``: ``AioServerContext``, ``AioLoadReports``, ``load_service(load, aio=True)``, ``adrain``.
"""

from __future__ import annotations

from meshlib.context.grpc import AioServerContext, ServerContext
from meshlib.grpc.draining import adrain, drain
from meshlib.grpc.load_interceptors import AioLoadReports, LoadReports, call_load
from meshlib.grpc.load_report import LoadRecorder, ServerLoad
from meshlib.grpc.load_service import load_service

__all__ = [
    "AioLoadReports",
    "AioServerContext",
    "LoadRecorder",
    "LoadReports",
    "ServerContext",
    "ServerLoad",
    "adrain",
    "call_load",
    "drain",
    "load_service",
]
