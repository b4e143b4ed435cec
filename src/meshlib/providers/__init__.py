"""Where facts come from: each provider publishes all it knows, again on every change.

Public, so that users add their own: anything with a ``name`` and an ``async run(publish)`` will do.
"""

from meshlib.providers.base import Facts, Provider, ProviderError, Publish
from meshlib.providers.consul import ConsulProvider
from meshlib.providers.file import FileProvider
from meshlib.providers.objects import Objects
from meshlib.providers.static import StaticProvider

__all__ = [
    "ConsulProvider",
    "Facts",
    "FileProvider",
    "Objects",
    "Provider",
    "ProviderError",
    "Publish",
    "StaticProvider",
]
