"""gRPC's static stride scheduler: weighted turns from one counter, without a lock.

Source: gRFC A58. Over 65,535 rounds an endpoint is chosen as often as its scaled weight says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["scaled", "turn"]

_FULL = 65_535
_OFFSET = 32_767


def scaled(weights: Sequence[float]) -> list[int] | None:
    """Weights between 1 and 65,535; an unknown one (0) becomes the mean. None when all turns are equal."""
    known = [weight for weight in weights if weight > 0]
    if len(weights) < 2 or len(known) < 2:
        return None
    scale = _FULL / max(known)
    mean = max(1, round(scale * sum(known) / len(known)))
    found = [max(1, round(weight * scale)) if weight > 0 else mean for weight in weights]
    return None if len(set(found)) == 1 else found


def turn(weights: Sequence[int], counter: Iterator[int]) -> int:
    """The index whose turn it is; ``counter`` is shared by all who take turns."""
    size = len(weights)
    for number in counter:
        round_, index = divmod(number & 0xFFFFFFFF, size)
        weight = weights[index]
        if (weight * round_ + index * _OFFSET) % _FULL >= _FULL - weight:
            return index
    raise AssertionError("a counter does not end")
