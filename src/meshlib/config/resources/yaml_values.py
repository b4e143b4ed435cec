"""YAML events into plain values, in one pass, within bounds.

Plain words mean what they mean to Kubernetes: keys are always texts, dates and ``12:30`` are texts, ``yes`` and ``on``
are booleans (YAML 1.1). Values are built from libyaml's events rather than from composed nodes, which takes a third of
the time; lines are looked up later, by whoever has a problem to tell (``yaml_lines``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from meshlib.config.resources.bounds import MAX_ALIASED, MAX_DEPTH, MAX_NODES, MAX_PROBLEMS

__all__ = ["NO_DOCUMENT", "TextError", "read_value"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Event = Any
"""An event of libyaml; which attributes it has depends on its class."""

NO_DOCUMENT = object()
"""What a text without any document holds."""


class TextError(Exception):
    """A text that cannot be read.

    Attributes:
        line: Counted from 0, inside the text; None when unknown.
        column: Counted from 0, likewise.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line, self.column = line, column


def read_value(text: str, repeated: list[TextError]) -> Any:
    """The value of a text with one document at most.

    Args:
        text: The text.
        repeated: Takes a word about every key that stands twice in its mapping; the last counts, as for Kubernetes.

    Raises:
        TextError: It is no YAML, or beyond a bound.
        yaml.YAMLError: It is no YAML.
    """
    loader = _Loader(text)
    try:
        return _Builder(loader.get_event, repeated).document()
    finally:
        loader.dispose()


class _Builder:
    """Values of one document.

    Attributes:
        nodes: Keys and values so far, those behind aliases included.
        aliased: How many of them stand there by aliases only.
    """

    def __init__(self, next_event: Callable[[], Event], repeated: list[TextError]) -> None:
        self._next = next_event
        self._repeated = repeated
        self._anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0
        self.aliased = 0

    def document(self) -> Any:
        self._next()  # the stream's start
        if isinstance(self._next(), StreamEndEvent):
            return NO_DOCUMENT
        value = self._value(self._next(), 0)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, StreamEndEvent):
            raise _error(after, "a second document starts without '---'")
        return value

    def _value(self, event: Event, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _error(event, f"more than {MAX_NODES} keys and values")
        kind = type(event)
        if kind is ScalarEvent:
            value = _scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1)
            return value
        if kind is AliasEvent:
            return self._alias(event)
        if depth >= MAX_DEPTH:
            raise _error(event, f"nested deeper than {MAX_DEPTH} levels")
        anchor, before = event.anchor, self.nodes
        if anchor is not None:
            self._anchors.pop(anchor, None)
        read = self._mapping if kind is MappingStartEvent else self._sequence
        value = read(event, depth + 1)
        if anchor is not None:
            self._anchors[anchor] = (value, self.nodes - before + 1)
        return value

    def _alias(self, event: Event) -> Any:
        name = event.anchor
        if name not in self._anchors:
            raise _error(event, f"alias *{name} has no anchor before it, or stands in what it names")
        value, size = self._anchors[name]
        self._repeat(event, size)
        return value

    def _repeat(self, event: Event, size: int) -> None:
        self.nodes += size
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            raise _error(event, f"aliases repeat more than {MAX_ALIASED} keys and values")

    def _sequence(self, start: Event, depth: int) -> list[Any]:
        _known_tag(start, "tag:yaml.org,2002:seq")
        items: list[Any] = []
        following, value = self._next, self._value
        while type(event := following()) is not SequenceEndEvent:
            items.append(value(event, depth))
        return items

    def _mapping(self, start: Event, depth: int) -> dict[str, Any]:
        _known_tag(start, "tag:yaml.org,2002:map")
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        following, value = self._next, self._value
        while type(event := following()) is not MappingEndEvent:
            if type(event) is not ScalarEvent:
                raise _error(event, "a key must be a text")
            key = event.value
            self.nodes += 1
            if key == "<<" and event.implicit[0]:
                self._merge(event, value(following(), depth), merged)
            else:
                if key in found and len(self._repeated) < MAX_PROBLEMS:
                    self._repeated.append(_error(event, f"key {_short(key)} stands twice"))
                if event.anchor is not None:
                    self._anchors[event.anchor] = (key, 1)
                found[key] = value(following(), depth)
        for key, given in merged.items():
            found.setdefault(key, given)
        return found

    def _merge(self, event: Event, given: Any, into: dict[str, Any]) -> None:
        """The keys of a mapping, or of several of which the first wins."""
        for mapping in given if isinstance(given, list) else [given]:
            if not isinstance(mapping, dict):
                raise _error(event, "'<<' merges mappings only")
            self._repeat(event, len(mapping))
            for key, value in mapping.items():
                into.setdefault(key, value)


def _error(event: Event, message: str) -> TextError:
    mark = event.start_mark
    return TextError(message, mark.line, mark.column)


def _known_tag(event: Event, expected: str) -> None:
    if event.tag not in (None, "!", expected):
        raise _error(event, f"tag {_short(event.tag)} means nothing here")


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."


# Scalars ------------------------------------------------------------------------------------------------------------

_INT = re.compile(r"([-+]?)(?:0b([01_]+)|0x([0-9a-fA-F_]+)|0([0-7_]+)|(0|[1-9][0-9_]*))")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{form: True for word in ("yes", "true", "on") for form in (word, word.capitalize(), word.upper())},
    **{form: False for word in ("no", "false", "off") for form in (word, word.capitalize(), word.upper())},
    **{form: float("nan") for form in (".nan", ".NaN", ".NAN")},
    **{sign + form: float(sign + "inf") for sign in ("", "+", "-") for form in (".inf", ".Inf", ".INF")},
}
_TAGS = "tag:yaml.org,2002:"
_LONGEST_WORD = 64


def _scalar(event: Event) -> Any:
    text: str = event.value
    tag = event.tag
    if tag is None:
        if not event.implicit[0]:
            return text
        try:
            return _plain(text) if len(text) <= _LONGEST_WORD else _read_plain(text)
        except ValueError as error:
            raise _error(event, str(error)) from None
    if tag in ("!", _TAGS + "str"):
        return text
    value = _WORDS.get(text, text) if tag in (_TAGS + "bool", _TAGS + "null") else _tagged_number(event, tag, text)
    if (tag == _TAGS + "bool" and not isinstance(value, bool)) or (tag == _TAGS + "null" and value is not None):
        raise _error(event, f"{_short(text)} is not what its tag {_short(tag)} says")
    return value


def _tagged_number(event: Event, tag: str, text: str) -> Any:
    if tag not in (_TAGS + "int", _TAGS + "float"):
        raise _error(event, f"tag {_short(tag)} means nothing here")
    try:
        value = _read_plain(text)
        return float(value) if tag == _TAGS + "float" else int(value)
    except (ValueError, TypeError, OverflowError):
        raise _error(event, f"{_short(text)} is not what its tag {_short(tag)} says") from None


def _read_plain(text: str) -> Any:
    """What an unquoted word means.

    Raises:
        ValueError: A whole number of more than 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    hit = _INT.fullmatch(text)
    if hit is not None:
        return _integer(hit)
    if _FLOAT.fullmatch(text) and any(character.isdigit() for character in text):
        return float(text.replace("_", ""))
    return text


def _integer(hit: re.Match[str]) -> Any:
    sign, *groups = hit.groups()
    for digits, base in zip(groups, (2, 16, 8, 10), strict=True):
        if digits is not None:
            digits = digits.replace("_", "").lstrip("0") or "0"
            value = int(digits, base) if len(digits) <= 64 else 2**64
            if value >= 2**64 or (sign == "-" and value > 2**63):
                raise ValueError(f"{_short(hit.string)} has more than 64 bits")
            return -value if sign == "-" else value
    return hit.string


_plain = lru_cache(maxsize=8192)(_read_plain)
