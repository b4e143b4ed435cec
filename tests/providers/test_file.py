"""Files under stress: what cannot be read stays as it was, is told, and costs no busy loop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from meshlib.config.feed import Feed, Options
from meshlib.model.snapshot import Client
from meshlib.providers import FileProvider
from meshlib.providers import folder as folder_module
from tests.mesh.test_mesh import ROUTE, until


class Watched:
    """A provider and its feed, asked rather than run."""

    def __init__(self, path):
        self.provider = FileProvider(path)
        self.feed = Feed(1, Options(Client()))
        self.look()

    def look(self):
        facts = self.provider.look()
        self.feed.take(0, facts)
        self.feed.publish()
        return facts

    def hosts(self):
        self.look()
        return {host: self.status(host) for host, _ in self.feed.snapshot.source.listing()}

    def status(self, host):
        (route,) = self.feed.snapshot.virtual_host(host.partition(".")[0], 80).routes
        return route.action.status

    def problems(self):
        self.look()
        return [str(problem) for problem in self.feed.problems]


def route(name, status=200):
    return ROUTE.format(name=name, status=status)


FULL = {f"{name}.default.svc.cluster.local": 200 for name in "ab"}


@pytest.fixture
def two(tmp_path):
    folder = tmp_path / "mesh"
    (folder / "below").mkdir(parents=True)
    (folder / "a.yaml").write_text(route("a"))
    (folder / "below" / "b.yml").write_text(route("b"))
    return folder


def test_nothing_changed_gives_the_very_same_facts(two):
    provider = FileProvider(two)
    facts = provider.look()
    assert provider.look() is facts
    os.utime(two / "a.yaml", (1, 1))
    assert provider.look() is facts, "touched, not changed"


def test_a_settled_file_is_not_even_opened(two, monkeypatch):
    provider = FileProvider(two)
    monkeypatch.setattr(folder_module, "_RACY", -3600.0)
    facts = provider.look()
    monkeypatch.setattr(folder_module.Path, "open", lambda *_: pytest.fail("opened"))
    assert provider.look() is facts


def test_a_folder_that_is_gone_keeps_what_it_held_and_says_so(two, tmp_path):
    watched = Watched(two)
    two.rename(tmp_path / "elsewhere")
    assert watched.hosts() == FULL
    (problem,) = watched.problems()
    assert "gone" in problem
    assert str(two) in problem
    (tmp_path / "elsewhere").rename(two)
    assert watched.hosts() == FULL
    assert watched.problems() == []


def test_a_folder_that_came_back_with_less_holds_less(two):
    watched = Watched(two)
    shutil.rmtree(two)
    assert watched.hosts() == FULL
    two.mkdir()
    (two / "a.yaml").write_text(route("a", 201))
    assert list(watched.hosts().values()) == [201]


def test_a_single_file_that_is_gone_keeps_what_it_held(two):
    watched = Watched(two / "a.yaml")
    (two / "a.yaml").unlink()
    assert list(watched.hosts()) == ["a.default.svc.cluster.local"]
    assert "gone" in watched.problems()[0]
    (two / "a.yaml").write_text(route("a", 201))
    assert list(watched.hosts().values()) == [201]
    assert watched.problems() == []


def test_a_file_taken_out_of_a_folder_is_gone(two):
    watched = Watched(two)
    (two / "a.yaml").unlink()
    assert list(watched.hosts()) == ["b.default.svc.cluster.local"]
    assert watched.problems() == []


def test_a_file_replaced_by_a_folder_and_back(two):
    watched = Watched(two / "a.yaml")
    (two / "a.yaml").unlink()
    (two / "a.yaml").mkdir()
    watched.look()
    (two / "a.yaml").rmdir()
    (two / "a.yaml").write_text(route("a", 201))
    assert list(watched.hosts().values()) == [201]


@pytest.mark.parametrize(
    "content",
    [b"{ half", b"kind: VirtualService\nmeta", b"\xff\xfe\x00", b"a: \x00", b"[" * 10_000, b"- x"],
)
def test_a_half_written_file_leaves_its_objects_as_they_were(two, content):
    watched = Watched(two)
    (two / "a.yaml").write_bytes(content)
    assert watched.hosts() == FULL
    assert any("a.yaml" in problem for problem in watched.problems())
    (two / "a.yaml").write_text(route("a", 201))
    assert watched.hosts()["a.default.svc.cluster.local"] == 201
    assert watched.problems() == []


def test_an_emptied_file_is_believed_at_the_second_look(two):
    watched = Watched(two)
    (two / "a.yaml").write_text("")
    provider = watched.provider
    held = provider.look()
    assert len(held.resources) == 2, "perhaps it is being written"
    assert len(provider.look().resources) == 1


def test_a_file_emptied_and_filled_was_never_empty(two):
    watched = Watched(two)
    (two / "a.yaml").write_text("")
    watched.look()
    (two / "a.yaml").write_text(route("a", 201))
    assert watched.hosts()["a.default.svc.cluster.local"] == 201


def test_renames_move_objects_without_a_gap(two):
    watched = Watched(two)
    for number in range(20):
        (two / ("a.yaml" if number == 0 else f"a{number - 1}.yaml")).rename(two / f"a{number}.yaml")
        assert watched.hosts() == FULL


def test_links_that_lead_nowhere_and_in_circles_are_passed_over(two):
    (two / "dangling.yaml").symlink_to("nowhere.yaml")
    (two / "circle.yaml").symlink_to("circle.yaml")
    (two / "loop").symlink_to("..")
    os.mkfifo(two / "pipe.yaml")
    (two / "folder.yaml").mkdir()
    watched = Watched(two)
    assert watched.hosts() == FULL
    assert [problem for problem in watched.problems() if "circle" not in problem] == []


def test_the_swap_of_a_volume_is_one_step(tmp_path):
    for number in (1, 2):
        (tmp_path / f"..v{number}").mkdir()
        for name in "ab":
            (tmp_path / f"..v{number}" / f"{name}.yaml").write_text(route(name, 200 + number))
    (tmp_path / "..data").symlink_to("..v1")
    for name in "ab":
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    watched = Watched(tmp_path)
    assert set(watched.hosts().values()) == {201}
    (tmp_path / "..tmp").symlink_to("..v2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..v1")
    assert set(watched.hosts().values()) == {202}
    assert watched.problems() == []


def test_a_huge_file_is_refused_and_its_neighbours_stand(two, monkeypatch):
    for module in ("meshlib.config.resources.load", "meshlib.providers.folder"):
        monkeypatch.setattr(f"{module}.MAX_BYTES", 1_000)
    watched = Watched(two)
    (two / "a.yaml").write_text(route("a") + "#" * 1_000)
    assert watched.hosts() == FULL
    assert "larger than" in watched.problems()[0]


def test_thousands_of_files_are_read_once_and_then_one_by_one(tmp_path):
    for number in range(3_000):
        (tmp_path / f"r{number}.yaml").write_text(route(f"r{number}"))
    provider = FileProvider(tmp_path)
    before = provider.look()
    (tmp_path / "r7.yaml").write_text(route("r7", 201))
    after = provider.look()
    assert len(after.resources) == 3_000
    fresh = [one for one, other in zip(after.resources, before.resources, strict=True) if one is not other]
    assert [resource.metadata.name for resource in fresh] == ["r7"]


def test_a_document_that_only_moved_keeps_its_object_and_tells_the_new_line(two):
    bad = route("bad", 9).replace("name: bad", "name: bad, labels: [1]")
    (two / "a.yaml").write_text(f"{route('a')}---\n{bad}---\n{route('c', 9)}")
    watched = Watched(two)
    before = {resource.metadata.name: resource for resource in watched.look().resources}
    lines = [problem.line for problem in watched.feed.problems]
    (two / "a.yaml").write_text(f"# one\n# two\n{route('a', 201)}---\n{bad}---\n{route('c', 9)}")
    after = {resource.metadata.name: resource for resource in watched.look().resources}
    assert after["a"].spec is not before["a"].spec
    assert after["c"].spec is before["c"].spec
    assert [problem.line for problem in watched.feed.problems] == [line + 2 for line in lines]
    assert len(lines) == 2


CLOSED = """
import os, sys
from tests.providers.test_file import Watched, route
from meshlib.config.resources import load_text
load_text(route("a", "many"))  # so that nothing is left to import
import pathlib, json
os.setuid(65534) if os.getuid() == 0 else None
folder = pathlib.Path(sys.argv[1])
watched = Watched(folder)
seen = []
for closed in (folder / "a.yaml", folder / "below", folder):
    closed.chmod(0)
    seen.append([sorted(watched.hosts().values()), len(watched.problems())])
    closed.chmod(0o755)
    seen.append([sorted(watched.hosts().values()), len(watched.problems())])
print(json.dumps(seen))
"""


def test_what_is_closed_to_the_process_stays_as_it_was():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "mesh"
        (folder / "below").mkdir(parents=True)
        (folder / "a.yaml").write_text(route("a"))
        (folder / "below" / "b.yml").write_text(route("b"))
        if os.getuid() == 0:  # root may read everything, so the test is somebody else
            for path in (Path(name), folder, folder / "below", folder / "a.yaml", folder / "below" / "b.yml"):
                os.chown(path, 65534, -1)
        run = [sys.executable, "-c", textwrap.dedent(CLOSED), str(folder)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=50, env={**os.environ, "HOME": name})
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [[[200, 200], 1], [[200, 200], 0]] * 3


class Run:
    """A provider run in a loop of its own, its publications collected."""

    def __init__(self, provider):
        self.published = []
        self.looks = 0
        look = provider.look

        def counted():
            self.looks += 1
            return look()

        provider.look = counted
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(provider.run(self.published.append))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()


def names(run):
    return sorted(resource.metadata.name for resource in run.published[-1].resources) if run.published else None


def test_a_folder_that_was_removed_is_watched_again_when_it_returns(two):
    with Run(FileProvider(two, poll=0.1)) as run:
        until(lambda: names(run) == ["a", "b"])
        shutil.rmtree(two)
        until(lambda: run.published[-1].problems)
        assert names(run) == ["a", "b"]
        two.mkdir()
        (two / "c.yaml").write_text(route("c"))
        until(lambda: names(run) == ["c"])
        (two / "c.yaml").rename(two / "d.yaml")
        (two / "e.yaml").write_text(route("e"))
        until(lambda: names(run) == ["c", "e"])


def test_a_storm_of_writes_beside_the_configuration_wakes_nobody(two):
    with Run(FileProvider(two, poll=30.0)) as run:
        until(lambda: names(run) == ["a", "b"])
        (two / "c.yaml").write_text(route("c"))
        until(lambda: names(run) == ["a", "b", "c"])
        before, ends = run.looks, time.monotonic() + 0.5
        while time.monotonic() < ends:
            (two / "access.log").write_text("x")
        assert run.looks - before <= 2


def test_a_missing_folder_costs_no_busy_loop(two):
    with Run(FileProvider(two, poll=0.2)) as run:
        until(lambda: names(run) == ["a", "b"])
        shutil.rmtree(two)
        until(lambda: run.published[-1].problems)
        before = run.looks
        ends = time.monotonic() + 1.0
        until(lambda: time.monotonic() > ends)
        assert run.looks - before <= 20


def test_where_nothing_can_be_watched_files_are_looked_at(two, monkeypatch, caplog):
    import watchfiles

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watchfiles, "awatch", refuse)
    with Run(FileProvider(two, poll=0.05)) as run:
        until(lambda: names(run) == ["a", "b"])
        (two / "c.yaml").write_text(route("c"))
        until(lambda: names(run) == ["a", "b", "c"])
    assert len([record for record in caplog.records if "No space left" in record.getMessage()]) == 1
