"""The console blocks of the documentation show what the commands print."""

from __future__ import annotations

import importlib
import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.cli.commands import meshlib

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["explain.md", "diff.md"]


def printed(command):
    return CliRunner().invoke(meshlib, shlex.split(command)[1:]).stdout


def renewed(text):
    """The page with the output of every command as it is now."""

    def run(block):
        commands = [line for line in block.group(1).splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"{line}\n{printed(line[2:])}" for line in commands) + "```"

    return BLOCK.sub(run, text)


@pytest.mark.parametrize("page", PAGES)
def test_console_blocks_are_true(page, monkeypatch):
    """With ``MESHLIB_RENEW_DOCS`` set the page is written anew instead."""
    path = ROOT / "docs" / page
    text = path.read_text("utf-8")
    monkeypatch.chdir(ROOT / "examples" / "canary")
    assert BLOCK.search(text)
    now = renewed(text)
    if os.environ.get("MESHLIB_RENEW_DOCS"):
        path.write_text(now, "utf-8")
    assert now == text or os.environ.get("MESHLIB_RENEW_DOCS"), "run again with MESHLIB_RENEW_DOCS=1, and read it"


def held():
    """Every test that the page of traps names, as (file, function); a name without a file is of the file before it."""
    file, found = "", []
    for path, name in re.findall(r"`([\w/]*(?:\.py)?)::(test_\w+)`", (ROOT / "docs" / "traps.md").read_text("utf-8")):
        file = path or file
        found.append((file, name))
    return found


def test_every_test_that_the_page_of_traps_names_exists():
    missing = [
        f"{file}::{name}"
        for file, name in held()
        if not re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert missing == []
    rows = [line for line in (ROOT / "docs" / "traps.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    bare = [row for row in rows if "::test_" not in row and not re.match(r"\| (trap|---) ", row)]
    assert bare == [], "every trap names a test"


NAMES = sorted(set(re.findall(r"`(meshlib(?:\.\w+)+)", (ROOT / "docs" / "reference-calls.md").read_text("utf-8"))))


@pytest.mark.parametrize("name", NAMES)
def test_every_call_of_the_reference_exists(name):
    assert resolved(name) is not None


def resolved(name):
    """What a dotted name stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    return None
