"""Which rules of a host a path can meet, found without asking each rule.

Exact paths stand in a dict. Prefixes stand sorted: the last one that is not above the path begins with the longest
prefix that the path has, so that one bisection and a few steps up to ever shorter prefixes find all of them. Rules
whose path nobody can look up (regular expressions, none at all) are candidates for every request.

Candidates come in the order of the rules, and a rule that is none of them would have failed at its path, which is the
condition that is tried first: whoever asks the candidates alone meets the same rule after the same draws.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from meshlib.model.match import MatchKind, PathMatch

__all__ = ["PathIndex"]

Numbers = tuple[int, ...]
_NONE: Numbers = ()


class PathIndex:
    """An index of rules by their conditions on the path.

    Args:
        paths: The condition of each rule, in the order in which rules are tried.
    """

    __slots__ = ("_anywhere", "_exactly", "_folded")

    def __init__(self, paths: Iterable[PathMatch | None]) -> None:
        exactly, folded, anywhere = _Collected(), _Collected(), []
        for number, path in enumerate(paths):
            if path is None or not (folded if path.ignore_case else exactly).take(number, path):
                anywhere.append(number)
        self._exactly, self._folded = _Table(exactly), _Table(folded) if folded else None
        self._anywhere: Numbers = tuple(anywhere)

    def candidates(self, target: str) -> Sequence[int]:
        """Numbers of the rules whose path condition holds for ``target`` (path and query) or is not in the index."""
        path = target.partition("?")[0] if "?" in target else target
        found = self._exactly.find(path)
        if self._folded is not None:
            found += self._folded.find(path.lower())
        if not found:
            return self._anywhere
        found += self._anywhere
        return sorted(found) if len(found) > 1 else found


class _Collected:
    """What becomes one table: the rules by exact path and by prefix."""

    def __init__(self) -> None:
        self.exact: dict[str, list[int]] = {}
        self.prefixes: dict[str, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes)

    def take(self, number: int, path: PathMatch) -> bool:
        """Note a rule; False when its condition cannot be looked up."""
        value = path.value.lower() if path.ignore_case else path.value
        if path.kind is MatchKind.EXACT:
            self.exact.setdefault(value, []).append(number)
        elif path.kind is MatchKind.PREFIX:
            self.prefixes.setdefault(value, []).append(number)
        elif path.kind is MatchKind.SEGMENT_PREFIX:
            bare = value.rstrip("/")
            self.exact.setdefault(bare, []).append(number)
            self.prefixes.setdefault(bare + "/", []).append(number)
        else:
            return False
        return True


class _Table:
    """Rules of one spelling of paths, as it is or in lower case."""

    __slots__ = ("_above", "_exact", "_numbers", "_prefixes")

    def __init__(self, collected: _Collected) -> None:
        self._exact: dict[str, Numbers] = {path: tuple(numbers) for path, numbers in collected.exact.items()}
        self._prefixes = sorted(collected.prefixes)
        self._numbers: list[Numbers] = [tuple(collected.prefixes[prefix]) for prefix in self._prefixes]
        self._above = _enclosing(self._prefixes)

    def find(self, path: str) -> Numbers:
        """Rules for exactly this path, and for each of its prefixes."""
        found = self._exact.get(path, _NONE)
        prefixes, above = self._prefixes, self._above
        at = bisect_right(prefixes, path) - 1
        while at >= 0:
            if path.startswith(prefixes[at]):
                found += self._numbers[at]
            at = above[at]
        return found


def _enclosing(ordered: Sequence[str]) -> list[int]:
    """For each of the sorted prefixes the place of the longest other one that it begins with; -1 for none."""
    above: list[int] = []
    open_: list[int] = []
    for at, prefix in enumerate(ordered):
        while open_ and not prefix.startswith(ordered[open_[-1]]):
            open_.pop()
        above.append(open_[-1] if open_ else -1)
        open_.append(at)
    return above
