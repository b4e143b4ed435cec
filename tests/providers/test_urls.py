"""Providers by URL: the scheme's class, where its source is, and its own keywords in the query."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from meshlib import Mesh, errors, providers
from meshlib.providers import ConsulProvider, DnsProvider, EtcdProvider, FileProvider
from meshlib.providers.urls import SCHEMES, Scheme, is_url, provider_of, split


class Noting:
    """Says what it was made with."""

    name = "noting"

    def __init__(
        self,
        *where: str,
        flag: bool = False,
        number: int = 0,
        maybe: float | None = None,
        names: Sequence[str] = (),
        path: str | os.PathLike[str] = "",
        rest: dict[str, str] | None = None,
    ) -> None:
        self.made = (where, flag, number, maybe, tuple(names), path)


@pytest.fixture(autouse=True)
def noting(monkeypatch):
    monkeypatch.setitem(SCHEMES, "noting", Scheme("Noting", lambda text: (text,) if text else ()))
    monkeypatch.setattr(providers, "Noting", Noting, raising=False)


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("noting:", ((), False, 0, None, (), "")),
        ("noting://a:1", (("a:1",), False, 0, None, (), "")),
        ("noting:a?flag&number=3", (("a",), True, 3, None, (), "")),
        ("noting:?flag=false&maybe=1.5&names=x,y%2Cz&path=/p", ((), False, 0, 1.5, ("x", "y", "z"), "/p")),
    ],
)
def test_options_are_read_as_the_keyword_is_annotated(url, made):
    assert provider_of(url).made == made


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nobody:x", "no source has the scheme 'nobody'"),
        ("noting:?where=x", "Noting has no option 'where'"),
        ("noting:?token=x", "Noting has no option 'token'"),
        ("noting:?flag=perhaps", "neither true nor false"),
        ("noting:?number=many", "invalid literal"),
        ("noting:?rest=x", "rest cannot be said in a URL"),
        ("dns:host:port", "invalid literal"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_url(url, error):
    with pytest.raises(errors.ConfigError, match=error) as caught:
        provider_of(url)
    assert str(caught.value).startswith(url)


def test_schemes_lead_to_the_providers_of_the_package(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert isinstance(provider_of("consul://127.0.0.1:8500?datacenters=a,b"), ConsulProvider)
    assert isinstance(provider_of("etcd://127.0.0.1:2379"), EtcdProvider)
    assert isinstance(provider_of(f"file:{tmp_path}/a.yaml?poll=2"), FileProvider)
    made = provider_of("dns:svc.test:8080?srv=_http._tcp.svc.test")
    assert isinstance(made, DnsProvider)
    assert made.name == "dns:_http._tcp.svc.test"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("consul:", "consul:http://127.0.0.1:8500"),
        ("consul://agent", "consul:http://agent:8500"),
        ("consul://agent:81/behind/", "consul:http://agent:81/behind"),
        ("consul:https://agent:8501?verify=false&token_file=/t&namespace=n&partition=p", "consul:https://agent:8501"),
        ("consul:unix:///run/consul.sock", "consul:unix:///run/consul.sock"),
        ("etcd:", "etcd:http://127.0.0.1:2379"),
        ("etcd://a,b:1", "etcd:http://a:2379"),
        ("etcd:https://[::1]:2379?ca=/ca&certificate=/c&key=/k&server_name=e&registry=/r/", "etcd:https://[::1]:2379"),
        ("etcd://[::1]", "etcd:http://[::1]:2379"),
    ],
)
def test_registries_listen_where_they_do_by_default(url, name):
    assert provider_of(url).name == name


def test_consuls_environment_says_whether_an_agent_without_a_scheme_is_asked_over_tls(monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    assert provider_of("consul://agent:8501").name == "consul:https://agent:8501"
    assert provider_of("consul:http://agent:8500").name == "consul:http://agent:8500"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.yaml", ["a.yaml"]),
        (os.pathsep.join(["a b", "c"]), ["a b", "c"]),
        ("consul://h:8500 mesh/", ["consul://h:8500", "mesh/"]),
        ("mesh/ dns:svc:80", ["mesh/", "dns:svc:80"]),
        ("", []),
    ],
)
def test_the_environment_separates_by_spaces_where_there_is_a_url(text, found):
    assert split(text) == found


def test_a_path_is_no_url():
    assert not is_url("mesh/consul:x")
    assert not is_url("C:/mesh")
    assert not is_url("unknown:x")


def test_a_mesh_takes_urls_beside_paths(monkeypatch, tmp_path):
    (tmp_path / "a.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", f"dns:svc.test:80 {tmp_path}")
    mesh = Mesh.from_env(telemetry=False)
    assert [each["name"] for each in mesh.status().providers] == ["dns:svc.test:80", f"file:{tmp_path}"]
