"""The bootstrap file of gRPC's clients."""

from __future__ import annotations

import pytest

from meshlib.errors import ConfigError
from meshlib.xds.bootstrap import find, load, parse
from tests.conftest import data_cases

SERVER = {"server_uri": "a:1", "channel_creds": [{"type": "insecure"}]}


@pytest.mark.parametrize("case", data_cases("xds/bootstrap.json"))
def test_istios_files_are_read(case):
    given, found = case["bootstrap"], parse(case["bootstrap"])
    assert [server.uri for server in found.servers] == [each["server_uri"] for each in given["xds_servers"]]
    for server, each in zip(found.servers, given["xds_servers"], strict=True):
        assert server.channel_credentials.type == each["channel_creds"][0]["type"]
        assert server.features == frozenset(each.get("server_features", ()))
    assert (found.node.id, dict(found.node.metadata)) == (given["node"]["id"], given["node"]["metadata"])
    providers = given.get("certificate_providers", {})
    assert {name: each.plugin for name, each in found.certificate_providers.items()} == {
        name: each["plugin_name"] for name, each in providers.items()
    }
    assert {name: dict(each.config) for name, each in found.certificate_providers.items()} == {
        name: each["config"] for name, each in providers.items()
    }
    assert found.server_template == given.get("server_listener_resource_name_template", "")


def test_the_first_known_credentials_win_and_unknown_call_credentials_are_left_out():
    creds = [{"type": "magic"}, {"type": "tls", "config": {"ca_certificate_file": "ca"}}, {"type": "insecure"}]
    calls = [{"type": "jwt_token_file", "config": {"jwt_token_file": "t"}}, {"type": "magic"}]
    (server,) = parse({"xds_servers": [{"server_uri": "a:1", "channel_creds": creds, "call_creds": calls}]}).servers
    assert (server.channel_credentials.type, dict(server.channel_credentials.config)) == (
        "tls",
        {"ca_certificate_file": "ca"},
    )
    assert [each.type for each in server.call_credentials] == ["jwt_token_file"]


def test_every_problem_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse(
            {
                "xds_servers": [{"server_uri": "", "channel_creds": [{"type": "magic"}]}],
                "node": [],
                "certificate_providers": {"x": {}},
                "authorities": {"a": {"client_listener_resource_name_template": "xdstp://b/%s"}},
            }
        )
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == [
        "xds_servers[0].server_uri",
        "xds_servers[0].channel_creds",
        "node",
        "certificate_providers.x.plugin_name",
        "authorities.a.client_listener_resource_name_template",
    ]


def test_listeners_are_named_by_template_and_authority():
    found = parse({"xds_servers": [SERVER], "authorities": {"auth.example": {}}})
    assert found.listener_name("", "svc:80") == "svc:80"
    name = "xdstp://auth.example/envoy.config.listener.v3.Listener/a%20b/c%20d"
    assert found.listener_name("auth.example", "a b/c d") == name
    with pytest.raises(ConfigError, match="no authority 'other'"):
        found.listener_name("other", "svc")


def test_the_environment_names_a_file_before_a_text(tmp_path):
    path = tmp_path / "bootstrap.json"
    path.write_text('{"xds_servers": [{"server_uri": "file:1", "channel_creds": [{"type": "insecure"}]}]}')
    inline = '{"xds_servers": [{"server_uri": "text:1", "channel_creds": [{"type": "insecure"}]}]}'
    both = {"GRPC_XDS_BOOTSTRAP": str(path), "GRPC_XDS_BOOTSTRAP_CONFIG": inline}
    assert find(both).servers[0].uri == "file:1"
    assert find({"GRPC_XDS_BOOTSTRAP_CONFIG": inline}).servers[0].uri == "text:1"
    assert find({}) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"xds_servers": {}}'])
def test_what_is_no_bootstrap_is_refused(text, tmp_path):
    path = tmp_path / "bootstrap.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path)
