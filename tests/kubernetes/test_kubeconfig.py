"""Where the server is and who we are, as kubectl reads it."""

from __future__ import annotations

import json
import os

import pytest

from meshlib.errors import ConfigError
from meshlib.providers.kubernetes import kubeconfig
from meshlib.providers.kubernetes.exec_plugin import ExecPlugin
from meshlib.providers.kubernetes.kubeconfig import Cluster, Exec, find


def write(path, **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **given}))
    return path


def cluster(name, **given):
    return {"name": name, "cluster": given}


def context(name, cluster="c", user="u"):
    return {"name": name, "context": {"cluster": cluster, "user": user}}


def user(name, **given):
    return {"name": name, "user": given}


def test_of_several_files_the_first_that_says_something_counts_and_paths_are_its_own(tmp_path, monkeypatch):
    one = write(
        tmp_path / "a" / "one", clusters=[cluster("c", server="https://one", **{"certificate-authority": "ca"})]
    )
    two = write(
        tmp_path / "b" / "two",
        clusters=[cluster("c", server="https://two")],
        users=[user("u", tokenFile="token")],
        contexts=[context("x"), context("y")],
        **{"current-context": "x"},
    )
    missing = tmp_path / "missing"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (missing, one, two))))
    for named in (None, "y"):
        found = find(None, named)
        assert found.cluster.server == "https://one"
        assert found.cluster.certificate_authority == str(tmp_path / "a" / "ca")
        assert found.user.token_file == str(tmp_path / "b" / "token")
        assert set(found.files) == {missing, one, two}, "one that comes later is noticed"


def test_what_a_pod_was_given_counts_where_no_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("c")
    monkeypatch.setattr(kubeconfig, "_POD", tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert find(None, None).cluster.server == "https://[fd00::1]:6443"
    own = write(tmp_path / "own", clusters=[cluster("c", server="https://own")], contexts=[context("x", user="")])
    monkeypatch.setenv("KUBECONFIG", str(own))
    assert find(None, "x").cluster.server == "https://own"


def test_another_may_be_acted_for(tmp_path):
    acting = {"as": "jane", "as-uid": "7", "as-groups": ["dev", "ops"], "as-user-extra": {"scopes": ["view"]}}
    path = write(
        tmp_path / "k",
        clusters=[cluster("c", server="https://c")],
        users=[user("u", **acting)],
        contexts=[context("x")],
    )
    assert list(find(path, "x").user.impersonation) == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-scopes", "view"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"contexts": [context("x", cluster="other")]}, "names cluster 'other', not defined"),
        ({"contexts": [context("x", user="other")]}, "names user 'other', not defined"),
        ({"clusters": [cluster("c", **{"proxy-url": "http://p"})]}, "proxy-url, which is not supported"),
        ({"contexts": []}, "has no context 'x'"),
        ({"clusters": [{"name": "c", "cluster": {"server": ["a"]}}]}, r"clusters\.0\.cluster\.server"),
    ],
)
def test_a_mistake_is_told_with_file_and_field(tmp_path, given, message):
    whole = {"clusters": [cluster("c", server="https://c")], "users": [user("u")], "contexts": [context("x")]}
    path = write(tmp_path / "config", **{**whole, **given})
    with pytest.raises(ConfigError, match=message) as raised:
        find(path, "x")
    assert str(path) in str(raised.value)


def test_a_plugin_that_wants_to_know_is_told_of_the_cluster():
    known = Cluster(server="https://c", tls_server_name="api", certificate_authority_data="QQ==")
    told = ExecPlugin(Exec(command="x", provide_cluster_info=True), known)._info()["spec"]["cluster"]
    assert told == {"server": "https://c", "tls-server-name": "api", "certificate-authority-data": "QQ=="}
    assert "cluster" not in ExecPlugin(Exec(command="x"), known)._info()["spec"]
