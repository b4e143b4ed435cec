"""``python -m meshlib.cli``."""

from meshlib.cli import main

main()
