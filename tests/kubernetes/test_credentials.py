"""Who we are: tokens that rotate, plugins, certificates, the service account of a pod."""

from __future__ import annotations

import json
import re
import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from meshlib import Mesh
from meshlib.errors import ConfigError
from meshlib.providers import KubernetesProvider
from tests.kubernetes.api import Server
from tests.kubernetes.objects import endpoints, route, service
from tests.kubernetes.worlds import QUICK, World, until


def follow(api, path, **options):
    return KubernetesProvider(path, tuning=QUICK, **options)


def kubeconfig(tmp_path, api, user=None, cluster=None):
    path = tmp_path / "kubeconfig"
    path.write_text(api.kubeconfig(user, cluster))
    return path


def test_a_token_file_is_read_again_when_the_server_answers_401(tmp_path):
    (tmp_path / "token").write_text("first")
    with Server(tokens={"first"}) as api:
        path = kubeconfig(tmp_path, api, {"tokenFile": str(tmp_path / "token")})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.ready(timeout=20)
            known = World(api, None, mesh)
            (tmp_path / "token").write_text("second")
            api.tokens = {"second"}
            api.cut()
            api.put(route("a", 218))
            until(lambda: known.status("a") == 218)
            assert mesh.status().providers[0]["error"] == ""


def test_a_token_that_expired_before_its_successor_came_heals(tmp_path):
    (tmp_path / "token").write_text("first")
    with Server(tokens={"first"}) as api:
        api.put(service("reviews"), endpoints("reviews", "10.0.0.1"))
        path = kubeconfig(tmp_path, api, {"tokenFile": str(tmp_path / "token")})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.ready(timeout=20)
            known = World(api, None, mesh)
            api.tokens = {"second"}
            api.cut()
            until(lambda: any("401" in each for each in known.problems()))
            assert known.endpoints("reviews") == ["10.0.0.1:8080"]
            (tmp_path / "token").write_text("second")
            api.put(route("a", 218))
            until(lambda: known.status("a") == 218)
            until(lambda: not known.problems())


PLUGIN = """#!{python}
import json, os, pathlib
folder = pathlib.Path({folder!r})
with (folder / "runs").open("a") as runs:
    runs.write("x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["spec"] == {{"interactive": False}} and os.environ["WHO"] == "me"
status = json.loads((folder / "status").read_text())
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
"""


@pytest.fixture
def plugin(tmp_path):
    command = tmp_path / "plugin"
    command.write_text(PLUGIN.format(python=sys.executable, folder=str(tmp_path)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    env = [{"name": "WHO", "value": "me"}]
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(command), "args": ["x"], "env": env}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_plugin_gives_tokens_and_is_run_again_after_401(tmp_path, plugin, version):
    (tmp_path / "status").write_text(json.dumps({"token": "first"}))
    user = {"exec": {**plugin, "apiVersion": f"client.authentication.k8s.io/{version}"}}
    with Server(tokens={"first"}) as api, Mesh(follow(api, kubeconfig(tmp_path, api, user)), telemetry=False) as mesh:
        mesh.ready(timeout=20)
        known = World(api, None, mesh)
        assert (tmp_path / "runs").read_text() == "x", "once for all collections"
        (tmp_path / "status").write_text(json.dumps({"token": "second"}))
        api.tokens = {"second"}
        api.cut()
        api.put(route("a", 218))
        until(lambda: known.status("a") == 218)


def test_a_token_of_a_plugin_is_not_used_beyond_its_end(tmp_path, plugin):
    soon = datetime.now(UTC) + timedelta(seconds=5)
    (tmp_path / "status").write_text(json.dumps({"token": "first", "expirationTimestamp": soon.isoformat()}))
    (tmp_path / "runs").write_text("")
    user = {"exec": plugin}
    with Server(tokens={"first"}) as api, Mesh(follow(api, kubeconfig(tmp_path, api, user)), telemetry=False) as mesh:
        mesh.ready(timeout=20)
        assert len((tmp_path / "runs").read_text()) > 5, "asked again for each request, as it ends within seconds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "/nowhere/plugin", "installHint": "get it there"}, "No such file.*get it there"),
        ({"env": []}, "ended with 1"),
        ({"command": "/bin/true"}, "gave no token, nor a certificate"),
    ],
)
def test_a_plugin_that_fails_is_told(tmp_path, plugin, change, message):
    with Server(tokens={"first"}) as api:
        provider = follow(api, kubeconfig(tmp_path, api, {"exec": {**plugin, **change}}))
        with Mesh(provider, telemetry=False) as mesh:
            mesh.start()
            until(lambda: re.search(message, mesh.status().providers[0]["error"]))


def test_certificates_prove_both_ends(tmp_path):
    authority, client = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    client.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = client.issue_cert("us@example.com")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    user = {"client-certificate": str(tmp_path / "cert.pem"), "client-key": str(tmp_path / "key.pem")}
    with Server(tls=context) as api:
        api.put(route("a", 218))
        path = kubeconfig(tmp_path, api, user, {"certificate-authority": str(tmp_path / "ca.pem")})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.ready(timeout=20)
            assert World(api, None, mesh).status("a") == 218


def test_a_plugin_may_give_a_certificate(tmp_path, plugin):
    authority, client = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    client.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = client.issue_cert("us@example.com")
    pair = {
        "clientCertificateData": mine.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": mine.private_key_pem.bytes().decode(),
    }
    (tmp_path / "status").write_text(json.dumps(pair))
    with Server(tls=context) as api:
        api.put(route("a", 218))
        path = kubeconfig(tmp_path, api, {"exec": plugin}, {"certificate-authority": "ca.pem"})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.ready(timeout=20)
            assert World(api, None, mesh).status("a") == 218


def test_a_server_that_cannot_prove_itself_is_not_believed(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server(tls=context) as api:
        path = kubeconfig(tmp_path, api, {}, {"certificate-authority": str(tmp_path / "ca.pem")})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.start()
            until(lambda: "CERTIFICATE_VERIFY_FAILED" in mesh.status().providers[0]["error"])
        assert not api.requests


def test_a_pods_service_account_is_found(tmp_path, monkeypatch):
    """The folder that Kubernetes mounts, elsewhere; its address comes from the environment."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("shop")
    with Server(tokens={"first"}, tls=context) as api:
        api.put(route("a", 218))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        provider = KubernetesProvider(service_account=tmp_path, tuning=QUICK)
        with Mesh(provider, telemetry=False) as mesh:
            mesh.ready(timeout=20)
            known = World(api, provider, mesh)
            assert known.status("a") == 218
            (tmp_path / "token").write_text("second")
            api.tokens = {"second"}
            api.cut()
            api.put(route("a", 219))
            until(lambda: known.status("a") == 219)


def test_credentials_that_cannot_be_read_are_told(tmp_path):
    with Server() as api:
        user = {"client-certificate": "missing.pem", "client-key": "missing.pem"}
        path = kubeconfig(tmp_path, api, user, {"server": api.url.replace("http:", "https:")})
        with Mesh(follow(api, path), telemetry=False) as mesh:
            mesh.start()
            until(lambda: "no certificates" in mesh.status().providers[0]["error"])


@pytest.mark.parametrize("text", ["", "[1]", "{", json.dumps({"clusters": 7})])
def test_a_kubeconfig_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(ConfigError, match="no cluster"):
        KubernetesProvider(tmp_path / "kubeconfig")
