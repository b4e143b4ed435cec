"""Providers by URL, for the command line and the environment: ``consul://127.0.0.1:8500?datacenters=dc1,dc2``.

A scheme stands for a provider class, what follows it for where its source is, and the query for the class's keywords by
their own names: texts, numbers, ``true`` or ``false``, and lists with commas. Secrets do not belong in a URL; the
providers read them from files and from the environment.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from meshlib.errors import ConfigError
from meshlib.providers.base import Provider

__all__ = ["SCHEMES", "Scheme", "is_url", "provider_of", "split"]


class Scheme(NamedTuple):
    """What a scheme stands for.

    Attributes:
        provider: Name of the class in ``meshlib.providers``; loaded when it is asked for.
        where: Makes positional arguments of what stands between the scheme and the query.
    """

    provider: str
    where: Callable[[str], Sequence[Any]]


def _as_is(text: str) -> Sequence[Any]:
    return (text,) if text else ()


def _at(port: int, scheme: str = "") -> Callable[[str], Sequence[Any]]:
    """Servers of a kind that listens on ``port`` unless the text says otherwise."""

    def complete(text: str) -> str:
        if "://" in text:
            return text
        host = text.rstrip("/")
        whole = "/" in host or _PORT.search(host)
        return f"{scheme}{host}" if whole else f"{scheme}{host}:{port}"

    return lambda text: tuple(complete(each) for each in text.split(",") if each)


_PORT = re.compile(r":\d+\Z", re.ASCII)

SCHEMES: dict[str, Scheme] = {
    "consul": Scheme("ConsulProvider", _at(8500)),
    "dns": Scheme("DnsProvider", _as_is),
    "etcd": Scheme("EtcdProvider", _at(2379, "http://")),
    "file": Scheme("FileProvider", _as_is),
    "kubernetes": Scheme("KubernetesProvider", _as_is),
    "xds": Scheme("XdsProvider", _as_is),
}
"""Scheme -> provider. Others may be added before the first mesh is made."""

_URL = re.compile(r"([a-z][a-z0-9+.-]+):", re.ASCII)
_LISTS = (Sequence, Iterable, tuple, list)
_BOOLEANS = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}


def is_url(text: str) -> bool:
    """Whether a source is named by URL rather than by path."""
    found = _URL.match(text)
    return found is not None and found.group(1) in SCHEMES


def split(text: str) -> list[str]:
    """The sources of ``MESHLIB_CONFIG``: separated as in ``PATH``, or by spaces where one of them is a URL."""
    words = text.split()
    return words if any(map(is_url, words)) else [each for each in text.split(os.pathsep) if each]


def provider_of(url: str) -> Provider:
    """The provider that a URL names.

    Raises:
        ConfigError: There is no such scheme, the class has no such keyword, or it cannot read a value.
        ImportError: The provider needs an extra that is not installed.
    """
    scheme, _, rest = url.partition(":")
    known = SCHEMES.get(scheme)
    if known is None:
        raise ConfigError(f"{url}: no source has the scheme {scheme!r}; there are {', '.join(sorted(SCHEMES))}")
    where, _, query = rest.partition("?")
    made = getattr(import_module("meshlib.providers"), known.provider, None)
    if made is None:
        raise ConfigError(f"{url}: there is no {known.provider} here")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        provider: Provider = made(*known.where(where.removeprefix("//")), **_typed(made, options))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{url}: {error}") from error
    return provider


def _typed(made: Callable[..., Any], options: Mapping[str, str]) -> dict[str, Any]:
    initial: Any = made.__init__
    hints, known = get_type_hints(initial), inspect.signature(made).parameters
    for name in options:
        if name not in known or known[name].kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            raise ValueError(f"{getattr(made, '__name__', made)} has no option {name!r}")
    return {name: _value(name, text, hints.get(name, str)) for name, text in options.items()}


def _value(name: str, text: str, hint: Any) -> Any:
    """A text as the first of the types that ``hint`` allows."""
    kinds = [each for each in get_args(hint) if each is not type(None)] if get_origin(hint) not in _LISTS else [hint]
    for kind in kinds or [hint]:
        if kind is str:
            return text
        if kind is bool:
            if text.lower() not in _BOOLEANS:
                raise ValueError(f"{name} is {text!r}, neither true nor false")
            return _BOOLEANS[text.lower()]
        if kind in (int, float):
            return kind(text)
        if get_origin(kind) in _LISTS and str in get_args(kind):
            return tuple(part for part in text.split(",") if part)
    raise ValueError(f"{name} cannot be said in a URL")
