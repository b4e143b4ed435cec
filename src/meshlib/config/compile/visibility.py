"""Who may see what: ``exportTo``.

``*`` is everybody, ``.`` the object's own namespace, ``~`` nobody, anything else a namespace.
Source: Istio ``pkg/config/visibility``.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["is_private", "is_public", "visible"]


def visible(export_to: Sequence[str], own: str, viewer: str) -> bool:
    """Whether an object of namespace ``own`` may be seen from ``viewer``."""
    if "~" in export_to:
        return False
    return "*" in export_to or viewer in export_to or ("." in export_to and viewer == own)


def is_public(export_to: Sequence[str]) -> bool:
    """Whether everybody may see it."""
    return "*" in export_to


def is_private(export_to: Sequence[str], own: str) -> bool:
    """Whether it names its own namespace and not everybody."""
    return "*" not in export_to and ("." in export_to or own in export_to)
