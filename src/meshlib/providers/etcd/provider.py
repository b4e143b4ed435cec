"""etcd as a source of configuration and of services."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial

from meshlib.errors import ConfigError
from meshlib.providers.base import Publish
from meshlib.providers.etcd.contents import Contents, Reading
from meshlib.providers.etcd.follow import Follow
from meshlib.providers.etcd.gateway import Gateway
from meshlib.providers.http import HttpServer, tls_of

__all__ = ["EtcdProvider", "gateway_of"]


class EtcdProvider:
    """Serves Istio objects and instances of services that stand in etcd, watched.

    Where an argument is not given, the environment of ``etcdctl`` counts (``ETCDCTL_ENDPOINTS``, ``ETCDCTL_CACERT``,
    ``ETCDCTL_CERT``, ``ETCDCTL_KEY``, ``ETCDCTL_USER``, ``ETCDCTL_PASSWORD``).

    Args:
        urls: Servers of one cluster, ``http://host:port`` or ``https://host:port``.
        config: Prefix of keys that hold objects, YAML or JSON; ``""`` for none.
        registry: Prefix of keys that hold instances, ``SERVICE/INSTANCE`` behind it; ``""`` for none.
        domain: DNS domain of services whose name has no dot.
        port: Port that HTTP services are called on, beside the one that all instances of a service share.
        strict: Refuse objects with unknown fields.
        user: Name to authenticate as.
        password: Of the user.
        idle: Seconds without an event after which a watch is begun anew, so that silence is noticed.
        timeout: Seconds for one answer.
        lease: Seconds for which keys are held that etcd does not have any more after it lost its history.
        ca: PEM file of trusted roots.
        certificate: PEM file of our own certificate.
        key: PEM file of its key.
        server_name: TLS name to check.
        verify: False accepts any certificate.

    Raises:
        ConfigError: A URL is none, or there is nothing to watch.
    """

    def __init__(
        self,
        *urls: str,
        config: str = "/meshlib/config/",
        registry: str = "/meshlib/services/",
        domain: str = "etcd",
        port: int = 80,
        strict: bool = False,
        user: str = "",
        password: str = "",
        idle: float = 30.0,
        timeout: float = 5.0,
        lease: float = 60.0,
        ca: str = "",
        certificate: str = "",
        key: str = "",
        server_name: str = "",
        verify: bool = True,
    ) -> None:
        if not config and not registry:
            raise ConfigError("neither config nor registry names a prefix: there is nothing to watch")
        tls = {"ca": ca, "certificate": certificate, "key": key, "server_name": server_name}
        self._gateway = gateway_of(urls, user, password, timeout, verify=verify, **tls)
        self.name = f"etcd:{(urls or _endpoints(os.environ))[0]}"
        self._lease = lease
        self._how = Reading(config, registry, domain, port, strict)
        self._idle = idle

    async def run(self, publish: Publish, /) -> None:
        """See ``Provider.run``; a failure before the first list is the provider's own."""
        contents = Contents(self.name, self._how, publish)
        parts = {"config": self._how.config, "registry": self._how.registry}
        followed = [self._follow(part, prefix, contents, publish) for part, prefix in parts.items() if prefix]
        try:
            for each in followed:
                await each.list()
            contents.publish()
            async with asyncio.TaskGroup() as tasks:
                for each in followed:
                    tasks.create_task(each.run())
                await contents.run()
        finally:
            await self._gateway.aclose()

    def _follow(self, part: str, prefix: str, contents: Contents, publish: Publish) -> Follow:
        def take(changed: set[bytes]) -> None:
            contents.note(part, changed, follow.keys.values)

        tell = partial(contents.tell, part)
        follow = Follow(self._gateway, prefix, take, tell, publish.alive, self._idle, self._lease)
        return follow


def gateway_of(
    urls: tuple[str, ...],
    user: str,
    password: str,
    timeout: float,
    *,
    ca: str = "",
    certificate: str = "",
    key: str = "",
    server_name: str = "",
    verify: bool = True,
) -> Gateway:
    """The servers of a cluster, by arguments, else by the environment of ``etcdctl``."""
    env = os.environ
    tls = tls_of(
        ca or env.get("ETCDCTL_CACERT", ""),
        certificate or env.get("ETCDCTL_CERT", ""),
        key or env.get("ETCDCTL_KEY", ""),
        verify=verify,
    )
    if not user:
        user, _, given = env.get("ETCDCTL_USER", "").partition(":")
        password = password or given or env.get("ETCDCTL_PASSWORD", "")
    servers = [HttpServer(url, tls, server_name) for url in urls or _endpoints(env)]
    return Gateway(servers, user, password, timeout)


def _endpoints(environ: Mapping[str, str]) -> tuple[str, ...]:
    """``etcdctl``'s own default."""
    return tuple(environ.get("ETCDCTL_ENDPOINTS", "").replace(",", " ").split()) or ("http://127.0.0.1:2379",)
