"""kubectl takes the server of these tests for an API server: discovery, tables, lists in pages, watches, changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading

import pytest

from tests.kubernetes.api import Server
from tests.kubernetes.objects import endpoints, node, pod, route, service
from tests.kubernetes.worlds import until, world

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed (Debian: kubernetes-client)")


class Kubectl:
    """kubectl with a home of its own."""

    def __init__(self, api, folder):
        (folder / "config").write_text(api.kubeconfig())
        self.environment = {**os.environ, "HOME": str(folder), "KUBECONFIG": str(folder / "config")}

    def __call__(self, *arguments, given=None):
        command = [KUBECTL, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, input=given, env=self.environment, timeout=50)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout


@pytest.fixture
def api():
    with Server() as server:
        server.put(service("reviews"), endpoints("reviews", "10.0.0.1"), pod("r-1", app="reviews"))
        server.put(node("n1", "eu", "eu-1"), route("a", 218))
        yield server


@pytest.fixture
def kubectl(api, tmp_path):
    return Kubectl(api, tmp_path)


def test_it_reads_what_there_is(api, kubectl):
    listed = kubectl("api-resources", "--no-headers")
    assert "virtualservices" in listed
    assert "endpointslices" in listed
    assert "reviews" in kubectl("get", "services", "--all-namespaces")
    assert json.loads(kubectl("get", "node", "n1", "-o", "json"))["metadata"]["name"] == "n1"
    named = json.loads(
        kubectl("get", "pods", "-l", "app=reviews", "--field-selector=status.phase!=Failed", "-o", "json")
    )
    assert [each["metadata"]["name"] for each in named["items"]] == ["r-1"]
    for number in range(7):
        api.put(route(f"r{number}", 200))
    paged = kubectl("get", "virtualservices.networking.istio.io", "--chunk-size=3", "-o", "name").split()
    assert len(paged) == 8


def test_it_watches(api, kubectl):
    command = [KUBECTL, "get", "services", "--watch", "--output-watch-events", "--no-headers"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=kubectl.environment
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        until(lambda: any(watch.type.plural == "services" for watch in list(api.watches)))
        api.put(service("ratings"))
        api.delete("Service", "ratings")
        until(lambda: len(lines) >= 3)
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=20)
        reader.join(10)
    assert [line.split()[:2] for line in lines[:3]] == [
        ["ADDED", "reviews"],
        ["ADDED", "ratings"],
        ["DELETED", "ratings"],
    ]
    assert complaints == ""


def test_what_it_changes_a_mesh_learns(api, kubectl, tmp_path):
    (tmp_path / "mesh").mkdir()
    with world(api, tmp_path / "mesh") as known:
        kubectl("create", "--validate=false", "-f", "-", given=json.dumps(route("b", 219)))
        until(lambda: known.status("b") == 219)
        kubectl("delete", "--wait=false", "virtualservices.networking.istio.io", "b")
        until(lambda: known.status("b") is None)
