"""How often this process came out of a fork, counted by the interpreter: asking the kernel who we are is a system call.

Connections of a parent are none of its child's: what holds some remembers the number and compares.
"""

from __future__ import annotations

import os

__all__ = ["generation"]

_generation = 0


def generation() -> int:
    """0 in the process that loaded this module, and one more in each forked child of it."""
    return _generation


def _forked() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_forked)
