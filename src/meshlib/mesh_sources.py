"""What a mesh may be made of, and the providers that serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from meshlib.config.resources import Resource
from meshlib.errors import ConfigError
from meshlib.providers.base import Provider
from meshlib.providers.file import FileProvider
from meshlib.providers.static import StaticProvider
from meshlib.providers.urls import is_url, provider_of

__all__ = ["Source", "providers_of"]

Source = str | Path | Provider | Resource[Any] | Mapping[str, Any]


def providers_of(sources: Sequence[Source], strict: bool) -> list[Provider]:
    """One for each source, in their order; objects that stand side by side share one."""
    found: list[Provider] = []
    for in_code, group in groupby(sources, key=lambda source: isinstance(source, Resource | Mapping)):
        if in_code:
            objects = [source for source in group if isinstance(source, Resource | Mapping)]
            found.append(StaticProvider(*objects, name="objects", strict=strict))
            continue
        for source in group:
            if isinstance(source, str) and is_url(source):
                found.append(provider_of(source))
            elif isinstance(source, str | Path):
                found.append(FileProvider(source, strict=strict))
            elif not isinstance(source, Resource | Mapping) and callable(getattr(source, "run", None)):
                found.append(source)
            else:
                raise ConfigError(f"{source!r} is no path, URL, provider, resource or mapping")
    return found
