"""Values of header operations, which hold Envoy's variables: ``%HOSTNAME%``, ``%REQ(:path)%``, ``100%%``.

Source: Envoy's header parser, as Istio's webhook applies it. What stands inside the parentheses is not judged.
"""

from __future__ import annotations

__all__ = ["header_value"]

_LITERAL, _NAME, _ARGUMENTS, _TEXT, _QUOTED_NEXT, _AFTER_QUOTE, _CLOSE, _END = range(8)
_HOLES = {
    _QUOTED_NEXT: ('"', _TEXT),
    _CLOSE: (")", _END),
    _END: ("%", _LITERAL),
}
"""States where, after spaces, one character must come: the character, and the state after it."""


def header_value(value: str) -> str | None:
    """What is wrong with a value; None when nothing is."""
    if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
        return f"{value!r} holds control characters"
    state, position = _LITERAL, 0
    while position < len(value):
        step = _step(state, value, position)
        if step is None:
            return f"{value!r} holds a '%' that begins no variable: write '%%' or '%VARIABLE%'"
        state, position = step
    return None if state == _LITERAL else f"{value!r} holds a variable that does not end"


def _step(state: int, value: str, position: int) -> tuple[int, int] | None:
    """The next state and position; None where the parser would stop."""
    character, following = value[position], position + 1
    if state == _LITERAL:
        if character != "%":
            return state, following
        if following == len(value):
            return None
        return (_LITERAL, following + 1) if value[following] == "%" else (_NAME, following)
    if state == _NAME:
        return {"%": _LITERAL, "(": _ARGUMENTS}.get(character, state), following
    if state == _TEXT:
        if character == "\\":
            return (state, following + 1) if following < len(value) else None
        return {")": _END, '"': _AFTER_QUOTE}.get(character, state), following
    if character == " ":
        return state, following
    if state == _ARGUMENTS:
        return (_QUOTED_NEXT if character == "[" else _TEXT), following
    if state == _AFTER_QUOTE:
        after = {",": _QUOTED_NEXT, "]": _CLOSE}.get(character)
        return None if after is None else (after, following)
    wanted, after = _HOLES[state]
    return (after, following) if character == wanted else None
