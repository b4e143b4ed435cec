"""Where facts come from: each provider publishes all it knows, again on every change.

Public, so that users add their own: anything with a ``name`` and an ``async run(publish)`` will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlib.providers.base import Facts, Provider, ProviderError, Publish
from meshlib.providers.consul import ConsulProvider
from meshlib.providers.dns import DnsProvider
from meshlib.providers.etcd import EtcdProvider, EtcdRegistration
from meshlib.providers.file import FileProvider
from meshlib.providers.kubernetes import KubernetesProvider
from meshlib.providers.objects import Objects
from meshlib.providers.static import StaticProvider

if TYPE_CHECKING:
    from meshlib.providers.xds import XdsProvider

__all__ = [
    "ConsulProvider",
    "DnsProvider",
    "EtcdProvider",
    "EtcdRegistration",
    "Facts",
    "FileProvider",
    "KubernetesProvider",
    "Objects",
    "Provider",
    "ProviderError",
    "Publish",
    "StaticProvider",
    "XdsProvider",
]

_HOMES = {"XdsProvider": "meshlib.providers.xds"}


def __getattr__(name: str) -> Any:
    """Load a provider that needs an extra when it is named first."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
