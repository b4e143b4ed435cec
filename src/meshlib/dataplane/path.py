"""Paths made normal before they are matched and sent, so that no rule is dodged by another spelling.

Source: Istio MeshConfig ``pathNormalization``; Envoy ``normalize_path``, ``merge_slashes``,
``path_with_escaped_slashes_action``; RFC 3986 section 6.2.2.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from meshlib.model.snapshot import PathNormalization

__all__ = ["may_change", "normalize_path"]

_DOTS = re.compile(r"/\.{1,2}(?=/|$)")
_UNRESERVED = re.compile(r"%(?:2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")
_SLASHES = re.compile(r"%(?:2[fF]|5[cC])")
_MANY = re.compile(r"//+")


def may_change(path: str) -> bool:
    """Whether some normalization could change ``path``; False, in a fraction of a microsecond, for almost all."""
    return "%" in path or "/." in path or "//" in path or "\\" in path


def normalize_path(target: str, how: PathNormalization = PathNormalization.BASE) -> str:
    """The path of ``target`` in its one spelling; the query is kept as it is.

    ``BASE`` decodes percent-coded unreserved characters, turns backslashes and removes dot segments; ``MERGE_SLASHES``
    makes one slash of several as well; ``DECODE_AND_MERGE_SLASHES`` decodes slashes and backslashes before that.
    """
    if how is PathNormalization.NONE:
        return target
    path, mark, query = target.partition("?")
    if how is PathNormalization.DECODE_AND_MERGE_SLASHES:
        path = _SLASHES.sub("/", path)
    path = _UNRESERVED.sub(lambda hit: unquote(hit.group()), path).replace("\\", "/")
    if _DOTS.search(path):
        path = _remove_dot_segments(path)
    if how is not PathNormalization.BASE:
        path = _MANY.sub("/", path)
    return path + mark + query


def _remove_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept) or "/"
