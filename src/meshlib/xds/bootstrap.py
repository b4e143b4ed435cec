"""The bootstrap file of gRPC's xDS clients: where the control plane is and who we say we are.

The file is named by ``GRPC_XDS_BOOTSTRAP``, or its text stands in ``GRPC_XDS_BOOTSTRAP_CONFIG``. Unknown fields are
ignored at every level, as the specification asks; what is read is checked, and every problem is told.

Source: gRFCs A27, A29, A36, A47, A65, A71, A81, A88, A95, A97; the form that Istio's agent writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from meshlib.errors import ConfigError
from meshlib.model.endpoint import Locality

__all__ = ["Authority", "Bootstrap", "CertificateProvider", "Credentials", "Node", "Server", "find", "load", "parse"]

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_CHANNEL = ("google_default", "insecure", "tls")
_CALL = ("jwt_token_file",)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of a channel or of calls: their type and its settings."""

    type: str
    config: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Server:
    """A control plane.

    Attributes:
        uri: gRPC target, for example ``unix:///etc/istio/proxy/XDS``.
        channel_credentials: The first type of the list that is known.
        call_credentials: All types of the list that are known.
        features: For example ``ignore_resource_deletion``, ``trusted_xds_server``, ``fail_on_data_errors``.
    """

    uri: str
    channel_credentials: Credentials
    call_credentials: tuple[Credentials, ...] = ()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Node:
    """Who we say we are."""

    id: str = ""
    cluster: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    locality: Locality = Locality()


@dataclass(frozen=True, slots=True)
class CertificateProvider:
    """Where certificates come from: a plugin and its settings."""

    plugin: str
    config: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Authority:
    """A federation member.

    Attributes:
        template: Name of a client's listener, ``%s`` stands for the target's path.
        servers: Empty means the top-level ones.
        fallback_on_reachability_only: Go to the next server even while everything is cached.
    """

    template: str
    servers: tuple[Server, ...] = ()
    fallback_on_reachability_only: bool = False


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The file as a value; servers in order of preference."""

    servers: tuple[Server, ...]
    node: Node = Node()
    certificate_providers: Mapping[str, CertificateProvider] = field(default_factory=lambda: _EMPTY)
    authorities: Mapping[str, Authority] = field(default_factory=lambda: _EMPTY)
    client_template: str = "%s"
    server_template: str = ""

    def listener_name(self, authority: str, path: str) -> str:
        """Name of the listener to ask for, for the target ``xds://authority/path``.

        Raises:
            ConfigError: The authority is not among those of the file.
        """
        if authority and authority not in self.authorities:
            raise ConfigError(f"the bootstrap has no authority {authority!r}")
        template = self.authorities[authority].template if authority else self.client_template
        if template.startswith("xdstp:"):
            path = "/".join(map(_percent_encoded, path.split("/")))
        return template.replace("%s", path)


def _percent_encoded(segment: str) -> str:
    return quote(segment, safe="-._~!$&'()*+,;=:@")


def find(environ: Mapping[str, str]) -> Bootstrap | None:
    """The bootstrap that the environment names; None when it names none."""
    if environ.get("GRPC_XDS_BOOTSTRAP"):
        return load(environ["GRPC_XDS_BOOTSTRAP"])
    inline = environ.get("GRPC_XDS_BOOTSTRAP_CONFIG")
    return None if not inline else parse(inline)


def load(path: str | Path) -> Bootstrap:
    """The bootstrap of a file.

    Raises:
        ConfigError: It cannot be read, or see ``parse``.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the xDS bootstrap {path} cannot be read: {error}") from error
    return parse(text)


def parse(document: str | Mapping[str, Any]) -> Bootstrap:
    """The bootstrap of a JSON text or of its plain values.

    Raises:
        ConfigError: With everything that is wrong.
    """
    try:
        values = json.loads(document) if isinstance(document, str) else document
    except ValueError as error:
        raise ConfigError(f"the xDS bootstrap is no JSON: {error}") from error
    reader = _Reader()
    found = reader.bootstrap(reader.mapping(values, "bootstrap"))
    if reader.problems:
        raise ConfigError("the xDS bootstrap cannot be used", reader.problems)
    return found


class _Reader:
    """Reads plain values and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            self.problems.append(f"{path}: expected an object, got {value!r}")
        return value if isinstance(value, Mapping) else {}

    def items(self, value: Any, path: str, read: Callable[[Mapping[str, Any], str], Any]) -> tuple[Any, ...]:
        if value is not None and not isinstance(value, list):
            self.problems.append(f"{path}: expected a list, got {value!r}")
        items = value if isinstance(value, list) else []
        places = ((item, f"{path}[{number}]") for number, item in enumerate(items))
        return tuple(read(self.mapping(item, place), place) for item, place in places)

    def text(self, values: Mapping[str, Any], name: str, path: str, default: str = "") -> str:
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            self.problems.append(f"{path}.{name}: expected a text, got {value!r}")
        return value if isinstance(value, str) else default

    def bootstrap(self, values: Mapping[str, Any]) -> Bootstrap:
        servers = self.items(values.get("xds_servers"), "xds_servers", self.server)
        if not servers:
            self.problems.append("xds_servers: needs at least one")
        providers = self.mapping(values.get("certificate_providers"), "certificate_providers")
        authorities = self.mapping(values.get("authorities"), "authorities")
        return Bootstrap(
            servers,
            self.node(self.mapping(values.get("node"), "node")),
            {name: self.provider(value, f"certificate_providers.{name}") for name, value in providers.items()},
            {name: self.authority(name, value) for name, value in authorities.items()},
            self.text(values, "client_default_listener_resource_name_template", "bootstrap", "%s"),
            self.text(values, "server_listener_resource_name_template", "bootstrap"),
        )

    def server(self, values: Mapping[str, Any], path: str) -> Server:
        uri = self.text(values, "server_uri", path)
        if not uri:
            self.problems.append(f"{path}.server_uri: is empty")
        offered = self.items(values.get("channel_creds"), f"{path}.channel_creds", self.credentials)
        channel = next((each for each in offered if each.type in _CHANNEL), None)
        if channel is None:
            names = ", ".join(each.type for each in offered) or "none"
            self.problems.append(f"{path}.channel_creds: {names} given, one of {', '.join(_CHANNEL)} is needed")
        elif channel.type == "tls":
            self._tls(channel.config, f"{path}.channel_creds")
        calls = self.items(values.get("call_creds"), f"{path}.call_creds", self.credentials)
        features = values.get("server_features") or ()
        return Server(
            uri,
            channel or Credentials("insecure"),
            tuple(each for each in calls if each.type in _CALL),
            frozenset(each for each in features if isinstance(each, str)),
        )

    def _tls(self, config: Mapping[str, Any], path: str) -> None:
        if bool(config.get("certificate_file")) is not bool(config.get("private_key_file")):
            self.problems.append(f"{path}.config: certificate_file and private_key_file stand together or not at all")

    def credentials(self, values: Mapping[str, Any], path: str) -> Credentials:
        return Credentials(self.text(values, "type", path), self.mapping(values.get("config"), f"{path}.config"))

    def node(self, values: Mapping[str, Any]) -> Node:
        place = self.mapping(values.get("locality"), "node.locality")
        parts = (self.text(place, name, "node.locality") for name in ("region", "zone", "sub_zone"))
        return Node(
            self.text(values, "id", "node"),
            self.text(values, "cluster", "node"),
            self.mapping(values.get("metadata"), "node.metadata"),
            Locality(*parts),
        )

    def provider(self, value: Any, path: str) -> CertificateProvider:
        values = self.mapping(value, path)
        plugin = self.text(values, "plugin_name", path)
        if not plugin:
            self.problems.append(f"{path}.plugin_name: is empty")
        return CertificateProvider(plugin, self.mapping(values.get("config"), f"{path}.config"))

    def authority(self, name: str, value: Any) -> Authority:
        path = f"authorities.{name}"
        values, start = self.mapping(value, path), f"xdstp://{name}/"
        default = f"{start}envoy.config.listener.v3.Listener/%s"
        template = self.text(values, "client_listener_resource_name_template", path, default) or default
        if not template.startswith(start):
            self.problems.append(f"{path}.client_listener_resource_name_template: must begin with {start}")
        servers = self.items(values.get("xds_servers"), f"{path}.xds_servers", self.server)
        return Authority(template, servers, bool(values.get("fallback_on_reachability_only")))
