"""Runs the tests of httpx itself twice, over its own transports and over the mesh, and compares.

    python downstream/run.py FOLDER [pytest's arguments]

``FOLDER`` holds httpx's source distribution (``pip download --no-deps --no-binary httpx httpx``) of the installed
version. What fails over httpx's own transports too says nothing about the mesh: other versions of other packages, or
a network that is not there. Exits 1 when the mesh fails a test that the bare client passes, but for those below.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

EXPECTED = {
    "tests.test_timeouts::test_pool_timeout[asyncio]": "the mesh's limits are those of the DestinationRule",
    "tests.test_timeouts::test_pool_timeout[trio]": "the mesh's limits are those of the DestinationRule",
}
"""Tests that pass without a mesh and not with it, and why that is right."""


def unpack(folder: Path) -> Path:
    """The tests, without the package beside them."""
    import httpx

    name = f"httpx-{httpx.__version__}"
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        wanted = [each for each in archive if each.name.startswith((f"{name}/tests/", f"{name}/pyproject.toml"))]
        archive.extractall(folder, wanted, filter="data")
    return folder / name


def passed(where: Path, arguments: list[str], *, meshed: bool) -> set[str]:
    """The tests that pass."""
    report = where.parent / ("meshed.xml" if meshed else "bare.xml")
    report.unlink(missing_ok=True)
    here = str(Path(__file__).resolve().parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
    plugin = ["-p", "over_the_mesh"] if meshed else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", f"--junitxml={report}"]
    subprocess.run([*command, *plugin, *(arguments or ["tests"])], cwd=where, env=environment, check=False)
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases if not len(case)}


def main() -> int:
    """Compare."""
    where = unpack(Path(sys.argv[1]).resolve())
    bare, meshed = (passed(where, sys.argv[2:], meshed=each) for each in (False, True))
    lost = sorted(bare - meshed - set(EXPECTED))
    print(f"pass over httpx's own transports: {len(bare)}; of these over the mesh: {len(bare & meshed)}")
    for test in sorted((bare - meshed) & set(EXPECTED)):
        print(f"as expected not over the mesh: {test} ({EXPECTED[test]})")
    for test in lost:
        print(f"lost: {test}")
    for test in sorted(set(EXPECTED) & meshed):
        print(f"expected to be lost, and is not: {test}")
    return 1 if lost or not meshed or set(EXPECTED) & meshed else 0


if __name__ == "__main__":
    sys.exit(main())
