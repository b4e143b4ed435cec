"""A control plane as a provider: what it sends becomes what requests see."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshlib.clock import wall
from meshlib.errors import ConfigError
from meshlib.model.hosts import is_ip, matches
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Client as Caller
from meshlib.providers.base import Facts, Publish
from meshlib.providers.xds import report
from meshlib.providers.xds.disk import Disk
from meshlib.providers.xds.load_reports import LoadReports
from meshlib.providers.xds.loads import Loads
from meshlib.providers.xds.streams import Streams
from meshlib.providers.xds.wire import KeepAlive
from meshlib.xds import bootstrap as bootstraps
from meshlib.xds.ads.client import Client
from meshlib.xds.ads.kinds import Kind
from meshlib.xds.ads.status import client_config
from meshlib.xds.bootstrap import Bootstrap
from meshlib.xds.decode.findings import Profile
from meshlib.xds.node import client_of, is_for_grpc, istio_node, node_message
from meshlib.xds.view import XdsView

if TYPE_CHECKING:
    from meshlib.dataplane.events import Observer

__all__ = ["XdsProvider"]

_AGENT_SOCKET = "/var/run/secrets/workload-spiffe-uds/socket"
"""Where Istio's injection puts the agent's socket for secrets."""
_SAVE_AFTER = 2.0
"""Seconds for which changes are gathered before what is good is kept on disk."""


class XdsProvider:
    """Asks a control plane, and any other named by a bootstrap, for what is to be known.

    Args:
        bootstrap: gRPC's bootstrap: a path, JSON text, plain values or a ``Bootstrap``. By default what
            ``GRPC_XDS_BOOTSTRAP`` names, or ``GRPC_XDS_BOOTSTRAP_CONFIG`` holds.
        hosts: ``host:port`` or ``host`` of what will be called, asked for at the start; for control planes that answer
            by name.
        everything: Ask for all listeners and clusters, as a sidecar does, rather than by name, as gRPC does. By default
            what the node says: ``GENERATOR: grpc``, or an id that is not of Istio's form, asks by name.
        delta: Speak the incremental protocol.
        profile: Whose rules of validation hold; by default gRPC's where names are asked for, else Envoy's.
        hold: Seconds for which an answer that takes everything away at the beginning of a stream is doubted; 0 believes
            it at once.
        keep_in: A file in which what is good is kept, for the next start.
        keepalive: Seconds of silence after which the server is asked for a sign of life, and within which it must come.
        on_demand: Patterns (``*``, ``*.example.com``) of hosts that are asked for when they are called first; the first
            call waits for the answer. By default short names and those of the Kubernetes cluster: whoever asks for a
            host that a control plane does not know may have to wait for 15 seconds.
        secrets: gRPC target of the agent that has the mesh's own certificate and roots (SDS), for clusters that name
            it; ``""`` asks nobody. By default the socket of Istio's agent, where there is one.
        name: Shown in ``mesh.status()``.
        rng: For the pauses between streams.

    Raises:
        ConfigError: There is no bootstrap, or it cannot be used.
    """

    def __init__(
        self,
        bootstrap: str | Path | Mapping[str, Any] | Bootstrap | None = None,
        *,
        hosts: Iterable[str] = (),
        everything: bool | None = None,
        delta: bool = False,
        profile: Profile | None = None,
        hold: float = 30.0,
        keep_in: str | Path | None = None,
        keepalive: tuple[float, float] = (30.0, 10.0),
        on_demand: Iterable[str] | None = None,
        secrets: str | None = None,
        name: str = "xds",
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.bootstrap = _read(bootstrap)
        by_name = is_for_grpc(self.bootstrap.node) if everything is None else not everything
        rules = profile or (Profile.GRPC if by_name else Profile.HTTP)
        node = self._node = node_message(self.bootstrap.node)
        agent = _agent() if secrets is None else secrets
        self.client = Client(
            self.bootstrap, node, everything=not by_name, delta=delta, profile=rules, hold=hold, agent=agent
        )
        self._caller = client_of(self.bootstrap.node)
        self._keepalive = KeepAlive(*keepalive)
        self._rng = rng or random.Random()  # noqa: S311 - not for secrets
        self._disk = Disk(keep_in, self.bootstrap) if keep_in is not None else None
        self._loads = Loads()
        self._reports: LoadReports | None = None
        self._view: XdsView | None = None
        self._unhonoured: tuple[object, tuple[Problem, ...]] = (None, ())
        self._published: tuple[object, ...] = ()
        self._publish: Publish | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: Streams | None = None
        self._unsaved = asyncio.Event()
        self._by_name = by_name
        self._on_demand = None if on_demand is None else tuple(on_demand)
        self.client.ask(self._names(hosts), 0.0)

    @classmethod
    def of_istiod(
        cls,
        server: str = "istiod.istio-system.svc:15010",
        *,
        caller: Caller | None = None,
        grpc: bool = False,
        tls: Mapping[str, str] | None = None,
        token: str | Path | None = None,
        environ: Mapping[str, str] = os.environ,
        **options: Any,
    ) -> XdsProvider:
        """A provider that says to istiod who the pod is; without an agent and a bootstrap file.

        Args:
            server: Port 15010 is plaintext, 15012 wants ``tls``; ``unix:///etc/istio/proxy/XDS`` is the agent's.
            caller: Namespace, labels and the like; by default what the pod's environment says.
            grpc: Ask for what proxyless gRPC gets, by name, rather than for all that a sidecar gets.
            tls: Files ``ca_certificate_file``, ``certificate_file``, ``private_key_file``, as in a bootstrap.
            token: File of a service account's token for istiod.
            environ: The environment.
            options: As of the class.

        Raises:
            ConfigError: A value is of no use.
        """
        space = environ.get("POD_NAMESPACE", "default")
        node = istio_node(caller or Caller(space), environ, grpc=grpc)
        credentials = {"type": "insecure"} if tls is None else {"type": "tls", "config": dict(tls)}
        entry: dict[str, Any] = {"server_uri": server, "channel_creds": [credentials]}
        if token is not None:
            entry["call_creds"] = [{"type": "jwt_token_file", "config": {"jwt_token_file": str(token)}}]
        place = dict(zip(("region", "zone", "sub_zone"), node.locality, strict=True))
        values = {"id": node.id, "cluster": node.cluster, "metadata": node.metadata, "locality": place}
        return cls({"xds_servers": [entry], "node": values}, **options)

    # Running --------------------------------------------------------------------------------------------------------

    def observing(self, inner: Observer | None) -> Observer:
        """An observer of calls that counts for load reports, and tells ``inner`` everything."""
        return self._loads.observing(inner)

    empty_lease = 0.0  # sessions judge answers one by one, which is finer

    async def run(self, publish: Publish) -> None:
        """See ``Provider.run``."""
        self._publish, self._published = publish, ()
        self._unsaved = asyncio.Event()
        loop = self._loop = asyncio.get_running_loop()
        for group in self.client.groups.values():
            for member in group.members:
                member.session.close()
        if self._disk is not None and self._view is None:
            self.client.restore(await asyncio.to_thread(self._disk.load), loop.time())
        self._streams = Streams(self.client, self._keepalive, self._tell, self._rng)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._reports = LoadReports(self.client, self._node, self._loads, self._keepalive, self._rng)
                self._reports.follow(self.client.world)
                tasks.create_task(self._reports.run())
                tasks.create_task(self._streams.run())
                if self._disk is not None:
                    tasks.create_task(self._keep(self._disk))
        finally:
            self._streams = self._publish = self._loop = None

    def _tell(self) -> None:
        """Publish what is different from before."""
        client, streams = self.client, self._streams
        if self._publish is None or streams is None:
            return
        if client.complete or self._view is not None:
            self._publish_changes(self._publish, streams)
        for server, why in streams.errors.items():
            self._publish.troubled(f"{server}: {why}")

    def _publish_changes(self, publish: Publish, streams: Streams) -> None:
        client = self.client
        now = (client.world, client.cache.revision, tuple(streams.errors.items()))
        if now == self._published:
            return
        self._published = now
        absent = client.absent
        if self._reports is not None and (self._view is None or self._view.world.routing is not client.world.routing):
            self._reports.follow(client.world)
        if self._view is None or self._view.world is not client.world or self._view.absent != absent:
            wish = self._wish if self._by_name else None
            self._view = XdsView(client.world, self._caller, self._listener_name, self._view, wish, absent)
        view = self._view
        publish(Facts((), self._problems(streams.errors), client.version, view, view.routing))
        self._unsaved.set()

    def _problems(self, errors: Mapping[str, str]) -> tuple[Problem, ...]:
        view, cache = self._view, self.client.cache
        if view is not None and self._unhonoured[0] is not view.routing:
            self._unhonoured = view.routing, tuple(report.unhonoured(cache))
        return (*report.unreachable(errors), *report.refused(cache), *self._unhonoured[1])

    async def _keep(self, disk: Disk) -> None:
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(_SAVE_AFTER)
            self._unsaved.clear()
            await asyncio.to_thread(disk.save, disk.pack(self.client.cache))

    def client_config(self) -> Any:
        """What is known of every resource, as the ``ClientConfig`` of Envoy's CSDS; ``status_service`` serves it."""
        since = wall() - (self._loop.time() if self._loop is not None else 0.0)
        return client_config(self.client.cache, self._node, since)

    # Names ----------------------------------------------------------------------------------------------------------

    def _wish(self, host: str, name: str) -> bool:
        """Ask for the listener of a host that is called, unless it is none of the control plane's. From any thread."""
        loop = self._loop
        if loop is None or not self._asks_for(host):
            return False
        if self.client.cache.get(Kind.LISTENER, name) is None:
            loop.call_soon_threadsafe(self._ask, name)
        return True

    def _asks_for(self, host: str) -> bool:
        if self._on_demand is not None:
            return any(matches(pattern, host) for pattern in self._on_demand)
        return not is_ip(host) and ("." not in host or host.endswith((".svc", f".svc.{self._caller.cluster_domain}")))

    def _ask(self, name: str) -> None:
        if self._streams is not None and self.client.ask([name], asyncio.get_running_loop().time()):
            self._streams.stir()

    def _names(self, hosts: Iterable[str]) -> list[str]:
        return [self._listener_name(host) for host in hosts]

    def _listener_name(self, target: str) -> str:
        return self.bootstrap.listener_name("", target)


def _agent() -> str:
    return f"unix://{_AGENT_SOCKET}" if Path(_AGENT_SOCKET).is_socket() else ""


def _read(given: str | Path | Mapping[str, Any] | Bootstrap | None) -> Bootstrap:
    if isinstance(given, Bootstrap):
        return given
    if given is None:
        found = bootstraps.find(os.environ)
        if found is None:
            raise ConfigError("no xDS bootstrap: give one, or set GRPC_XDS_BOOTSTRAP")
        return found
    if isinstance(given, Path) or (isinstance(given, str) and not given.lstrip().startswith("{")):
        return bootstraps.load(given)
    return bootstraps.parse(given)
