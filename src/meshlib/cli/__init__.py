"""``meshlib``: look into a mesh configuration, send a request through it, see it work."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The ``meshlib`` command."""
    try:
        from meshlib.cli.commands import meshlib
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"the meshlib command needs {error.name}: pip install 'meshlib[cli]'")
    meshlib()
