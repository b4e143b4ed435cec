"""Syntax of what Gateway API objects name: hosts, groups, kinds, sections; each returns what is wrong, or None.

Source: Gateway API ``apis/v1/shared_types.go``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence

from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.model.hosts import is_ip

__all__ = ["group", "header", "hostname", "kind", "limit", "object_name", "section", "texts", "unique"]

_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_KIND = re.compile(r"[a-zA-Z](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_LONGEST_NAME, _LONGEST_HEADER = 253, 256


def hostname(text: str, *, wildcard: bool = False) -> str | None:
    """A name in lower case, no IP address; ``wildcard`` allows ``*.`` before it."""
    bare = text.removeprefix("*.") if wildcard else text
    if is_ip(text):
        return f"{text!r} is an IP address, a name is needed"
    if len(text) > _LONGEST_NAME or not _SUBDOMAIN.fullmatch(bare):
        return f"{text!r} is not a host name in lower case"
    return None


def group(text: str) -> str | None:
    """An API group; ``""`` is Kubernetes' core."""
    return None if not text or _is_subdomain(text) else f"{text!r} is not an API group"


def kind(text: str) -> str | None:
    """The name of a kind."""
    return None if _KIND.fullmatch(text) else f"{text!r} is not the name of a kind"


def object_name(text: str) -> str | None:
    """The name of an object: not empty, at most 253 characters."""
    return None if 0 < len(text) <= _LONGEST_NAME else f"{text!r} is not the name of an object"


def section(text: str) -> str | None:
    """The name of a rule, listener or port."""
    return None if _is_subdomain(text) else f"{text!r} is not a name in lower case"


def header(name: str) -> str | None:
    """A header name of at most 256 characters."""
    if len(name) > _LONGEST_HEADER:
        return f"the header name has {len(name)} characters, at most {_LONGEST_HEADER} are allowed"
    return check.header_name(name)


def _is_subdomain(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and _SUBDOMAIN.fullmatch(text) is not None


# Lists --------------------------------------------------------------------------------------------------------------


def limit(report: Report, path: str, items: Sequence[object], most: int, least: int = 0) -> None:
    """Report a list with too many or too few entries."""
    if not least <= len(items) <= most:
        bound = f"at most {most}" if not least else f"{least} to {most}"
        report.error(path, f"{len(items)} entries, {bound} are allowed")


def unique(report: Report, path: str, keys: Iterable[Hashable], what: str, field: str = "") -> None:
    """Report every key that stands twice."""
    seen: set[Hashable] = set()
    for number, key in enumerate(keys):
        if key in seen:
            report.error(f"{path}[{number}]{field}", f"{what} {key!r} stands twice")
        seen.add(key)


def texts(report: Report, path: str, value: str, most: int) -> None:
    """Report a text that is empty or too long."""
    if not 1 <= len(value) <= most:
        report.error(path, f"the text has {len(value)} characters, 1 to {most} are allowed")
