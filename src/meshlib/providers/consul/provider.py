"""Consul's catalogue and health as ServiceEntries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from meshlib.providers.base import Publish
from meshlib.providers.consul.agent import Agent, Token
from meshlib.providers.consul.catalogue import Catalogue
from meshlib.providers.consul.scope import Scope
from meshlib.providers.consul.services import Naming
from meshlib.providers.http import HttpServer, tls_of

__all__ = ["ConsulProvider"]


class ConsulProvider:
    """Serves the services that a Consul agent knows, each as ``NAME.service.consul`` and ``NAME.service.DC.consul``.

    Each service is watched by blocking queries on a connection of its own while there are any; one more watches the
    list of services.
    Where an argument is not given, Consul's own environment variables count (``CONSUL_HTTP_ADDR``,
    ``CONSUL_HTTP_TOKEN``, ``CONSUL_HTTP_TOKEN_FILE``, ``CONSUL_CACERT``, ``CONSUL_CLIENT_CERT``, ``CONSUL_CLIENT_KEY``,
    ``CONSUL_TLS_SERVER_NAME``, ``CONSUL_HTTP_SSL``, ``CONSUL_HTTP_SSL_VERIFY``, ``CONSUL_NAMESPACE``,
    ``CONSUL_PARTITION``).

    Args:
        url: ``http://host:port``, ``https://host:port`` or ``unix:///path``; ``host:port`` alone is ``https`` where
            ``CONSUL_HTTP_SSL`` says so.
        token: ACL token; it needs ``service:read`` and ``node:read``.
        token_file: File of the token, read again for each query.
        services: Watch these only; by default all of the catalogue.
        tags: Watch only instances that carry all of these.
        filter: Consul's filter expression, for instances.
        datacenters: To watch; by default the agent's own. ``""`` among others is the agent's own.
        namespace: Consul namespace.
        partition: Consul admin partition.
        domain: Consul's DNS domain.
        hosts: Further hosts of each service: templates with ``{service}``, ``{datacenter}`` and ``{domain}``.
        port: Port that HTTP services are called on, beside the one that all instances of a service share.
        address: Name of the tagged address to dial, for example ``wan``.
        passing_only: Leave out instances with a warning; by default they count with their weight for warnings.
        stale: Let any server answer: cheaper, and late by some milliseconds.
        wait: Seconds for which a query waits for a change.
        timeout: Seconds that an answer may take beyond that; silence is noticed then.
        lease: Seconds for which instances are held that Consul does not know any more after it lost its history, and
            for which a service that is gone stays known, without endpoints.
        connections: Queries for services at a time; an agent allows 200 connections for each client by default. Up
            to eight of them are kept for reads that do not wait: services that have none of their own are read when a
            query for all of them tells of a change, and every half a minute.
        ca: PEM file of trusted roots.
        certificate: PEM file of our own certificate.
        key: PEM file of its key.
        server_name: TLS name to check.
        verify: False accepts any certificate.

    Raises:
        ConfigError: The URL is none.
    """

    def __init__(
        self,
        url: str = "",
        *,
        token: str = "",
        token_file: str = "",
        services: Sequence[str] = (),
        tags: Sequence[str] = (),
        filter: str = "",
        datacenters: Sequence[str] = ("",),
        namespace: str = "",
        partition: str = "",
        domain: str = "consul",
        hosts: Sequence[str] = (),
        port: int = 80,
        address: str = "lan",
        passing_only: bool = False,
        stale: bool = False,
        wait: float = 60.0,
        timeout: float = 10.0,
        lease: float = 60.0,
        connections: int = 100,
        ca: str = "",
        certificate: str = "",
        key: str = "",
        server_name: str = "",
        verify: bool | None = None,
    ) -> None:
        env = os.environ
        tls = tls_of(
            ca or env.get("CONSUL_CACERT", ""),
            certificate or env.get("CONSUL_CLIENT_CERT", ""),
            key or env.get("CONSUL_CLIENT_KEY", ""),
            verify=verify if verify is not None else _truth(env.get("CONSUL_HTTP_SSL_VERIFY", "true")),
        )
        self.url = _address(url, env)
        self._server = HttpServer(self.url, tls, server_name or env.get("CONSUL_TLS_SERVER_NAME", ""))
        self.name = f"consul:{self.url}"
        if not token and not token_file:
            token, token_file = env.get("CONSUL_HTTP_TOKEN", ""), env.get("CONSUL_HTTP_TOKEN_FILE", "")
        namespace = namespace or env.get("CONSUL_NAMESPACE", "")
        partition = partition or env.get("CONSUL_PARTITION", "")
        given = [(name, value) for name, value in (("ns", namespace), ("partition", partition)) if value]
        self._agent = Agent(self._server, Token(token, token_file), given, stale=stale, limit=timeout)
        self._naming = Naming(domain, tuple(hosts), port, address, namespace, partition, passing_only)
        self._scope = Scope(
            tuple(datacenters),
            tuple(services),
            frozenset(tags),
            filter,
            wait=wait,
            lease=lease,
            connections=connections,
        )

    async def run(self, publish: Publish, /) -> None:
        """See ``Provider.run``."""
        try:
            await Catalogue(self.name, self._agent, self._naming, self._scope, publish).run()
        finally:
            await self._server.aclose()


def _address(url: str, environ: Mapping[str, str]) -> str:
    """What is given, else Consul's own default; without a scheme it has the one of Consul's command line."""
    given = url or environ.get("CONSUL_HTTP_ADDR") or "127.0.0.1:8500"
    secure = "https" if _truth(environ.get("CONSUL_HTTP_SSL", "false")) else "http"
    return given if "://" in given else f"{secure}://{given}"


def _truth(text: str) -> bool:
    return text.strip().lower() in ("1", "t", "true")
