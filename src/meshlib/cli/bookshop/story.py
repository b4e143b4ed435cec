"""What happens in the demo: a canary moves, an instance breaks and comes back, a fault is injected, retries save calls.

Each chapter edits the live YAML or a server, sends pages through the mesh, counts, and judges its own claim.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

from meshlib.cli.bookshop.application import Bookshop
from meshlib.cli.bookshop.screen import Chapter, Screen
from meshlib.client import MeshClient
from meshlib.mesh import Mesh

__all__ = ["run"]

_PAGE = "http://productpage:9080/productpage"
_WORKERS = 3
_PARTS = 8


def run(seconds: float, *, live: bool, as_json: bool) -> int:
    """Tell the story in about ``seconds`` seconds; 0 when every claim was proven, else 1."""
    folder = Path(tempfile.mkdtemp(prefix="meshlib-bookshop-"))
    try:
        for file in resources.files("meshlib.cli.bookshop").joinpath("mesh").iterdir():
            if file.name.endswith(".yaml"):
                (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
        with Mesh(folder, labels={"app": "bookshop"}) as mesh, MeshClient(mesh) as client:
            shop = Bookshop(client)
            (folder / "endpoints.yaml").write_text(shop.endpoint_slices(), "utf-8")
            try:
                mesh.ready(["productpage", "details", "reviews", "ratings"])
                with Screen(live=live, quiet=as_json) as screen:
                    story = _Story(mesh, client, shop, folder, screen, max(0.25, seconds / _PARTS))
                    proven = story.tell()
                screen.summary(story.pages, as_json=as_json)
            finally:
                shop.close()
        return 0 if proven else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Story:
    def __init__(
        self, mesh: Mesh, client: MeshClient, shop: Bookshop, folder: Path, screen: Screen, part: float
    ) -> None:
        self._mesh = mesh
        self._client = client
        self._shop = shop
        self._folder = folder
        self._screen = screen
        self._part = part
        self._original = (folder / "reviews.yaml").read_text("utf-8")
        self.pages = 0

    def tell(self) -> bool:
        """All chapters; whether every claim was proven."""
        self._screen.note(f"the live configuration is in {self._folder}")
        chapters = [self._canary(90, 10), self._canary(50, 50), self._canary(0, 100)]
        chapters += [self._ejection(), self._return(), self._match(), self._fault(), self._retry()]
        return all(chapter.proven for chapter in chapters)

    # Chapters -------------------------------------------------------------------------------------------------------

    def _canary(self, stable: int, canary: int) -> Chapter:
        chapter = Chapter(f"canary {stable}/{canary}", f"weights {stable}/{canary} are kept")
        text = self._original.replace("weight: 90", f"weight: {stable}").replace("weight: 10", f"weight: {canary}")
        self._begin(chapter, "reviews.yaml", text)
        self._send(chapter, _version)
        total, got = sum(chapter.counts.values()), chapter.counts["v2"]
        expected = total * canary / 100
        allowed = 4 * (total * canary * stable / 10_000) ** 0.5
        chapter.proven = total > 0 and abs(got - expected) <= allowed and total == got + chapter.counts["v1"]
        return self._end(chapter, f"v2 got {got} of {total}, expected {expected:.0f} +- {allowed:.0f}")

    def _ejection(self) -> Chapter:
        chapter = Chapter("one of two v2 instances fails", "the failing instance is ejected")
        self._begin(chapter)
        broken = self._shop.instances("reviews", "v2")[0]
        broken.failing, broken.served = True, 0
        self._send(chapter, lambda page: str(page["reviews"]))
        total, failed = sum(chapter.counts.values()), total_failed(chapter.counts)
        # Out for one second, then two: it is asked again only when it comes back, three requests at a time.
        chapter.proven = failed == broken.served and 3 <= failed <= max(12, total // 10) and total > 3 * failed
        return self._end(chapter, f"{failed} of {total} pages met the failing instance before it was left out")

    def _return(self) -> Chapter:
        chapter = Chapter("it is mended", "the instance comes back")
        self._begin(chapter)
        mended = self._shop.instances("reviews", "v2")[0]
        mended.failing, mended.served = False, 0
        self._send(chapter, lambda page: str(page["reviews"]), until=lambda: mended.served > 20, at_most=12.0)
        total, failed = sum(chapter.counts.values()), total_failed(chapter.counts)
        chapter.proven = mended.served > 20 and failed == 0
        return self._end(chapter, f"it served {mended.served} of {total} requests again, {failed} failed")

    def _match(self) -> Chapter:
        chapter = Chapter("end-user: jason", "a header match decides before the weights")
        self._begin(chapter)
        self._send(chapter, _version, headers={"end-user": "jason"})
        total, got = sum(chapter.counts.values()), chapter.counts["v3"]
        chapter.proven = total == got > 0
        return self._end(chapter, f"{got} of {total} went to v3")

    def _fault(self) -> Chapter:
        chapter = Chapter("fault: 30% of details abort", "an injected fault answers for the server")
        details = self._shop.instances("details", "v1")[0]
        self._begin(chapter, "details.yaml", _FAULT)
        details.served = 0
        self._send(chapter, lambda page: str(page["details"]))
        total, aborted = sum(chapter.counts.values()), chapter.counts["418"]
        allowed = 4 * (total * 0.3 * 0.7) ** 0.5
        fits = abs(aborted - 0.3 * total) <= allowed and details.served == total - aborted
        chapter.proven = total > 0 and fits
        evidence = f"{aborted} of {total} answered 418 here, the server saw {details.served}"
        return self._end(chapter, evidence)

    def _retry(self) -> Chapter:
        chapter = Chapter("one call in four meets a 503 of ratings", "retries save the calls")
        (self._folder / "details.yaml").unlink()
        self._begin(chapter)
        ratings = self._shop.instances("ratings", "v1")
        for server in ratings:
            server.served = 0
        self._shop.flaky = 4
        self._send(chapter, lambda page: str(page.get("ratings_status", 200)))
        self._shop.flaky = 0
        total, failed = sum(chapter.counts.values()), total_failed(chapter.counts)
        asked = sum(server.served for server in ratings)
        chapter.proven = failed == 0 and asked > total > 0
        return self._end(chapter, f"{total} calls, {asked - total} retries, {failed} failed")

    # Tools ----------------------------------------------------------------------------------------------------------

    def _begin(self, chapter: Chapter, file: str | None = None, text: str = "") -> None:
        self._screen.begin(chapter)
        if file is None:
            return
        path = self._folder / file
        if path.exists() and path.read_text("utf-8") == text:
            return
        version = self._mesh.snapshot.version
        path.write_text(text, "utf-8")
        ends = time.monotonic() + 10.0
        while self._mesh.snapshot.version == version and time.monotonic() < ends:
            time.sleep(0.01)
        self._screen.note(f"{file} edited, snapshot {self._mesh.snapshot.version} in force")

    def _end(self, chapter: Chapter, evidence: str) -> Chapter:
        chapter.evidence = evidence
        self._screen.end(chapter)
        return chapter

    def _send(
        self,
        chapter: Chapter,
        sort: Callable[[dict[str, Any]], str],
        *,
        headers: dict[str, str] | None = None,
        until: Callable[[], bool] | None = None,
        at_most: float = 0.0,
    ) -> None:
        """Pages from several threads for a while, or until a condition holds."""
        ends = time.monotonic() + self._part
        latest = time.monotonic() + max(self._part, at_most)

        def go_on() -> bool:
            now = time.monotonic()
            return now < ends or (until is not None and not until() and now < latest)

        def work() -> Counter[str]:
            own: Counter[str] = Counter()
            while go_on():
                page = self._client.get(_PAGE, headers=headers).json()
                own[sort(page)] += 1
                chapter.counts[sort(page)] += 1
            return own

        with ThreadPoolExecutor(_WORKERS) as pool:
            running = [pool.submit(work) for _ in range(_WORKERS)]
            while not all(worker.done() for worker in running):
                time.sleep(0.05)
                self._screen.tick()
            exact = sum((worker.result() for worker in running), Counter[str]())
        chapter.counts.clear()
        chapter.counts.update(exact)
        self.pages += sum(exact.values())


def total_failed(counts: Counter[str]) -> int:
    """Answers that are no 200."""
    return sum(number for name, number in counts.items() if name != "200")


def _version(page: dict[str, Any]) -> str:
    return str(page.get("version", page["reviews"]))


_FAULT = """# Written by the demo: three requests in ten to details are answered here, by the client.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details}
spec:
  hosts: [details]
  http:
  - fault:
      abort: {httpStatus: 418, percentage: {value: 30}}
    route:
    - destination: {host: details}
"""
