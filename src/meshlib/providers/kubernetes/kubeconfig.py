"""Where an API server is and who we are: of a pod's service account, or of kubeconfig files.

Of several files in ``KUBECONFIG`` the first that names a cluster, user, context or current context counts; those that
are not there are passed over. A relative path is meant from the file that it stands in.

Source: Kubernetes ``clientcmd/api/v1`` and "Organizing Cluster Access Using kubeconfig Files".
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meshlib.errors import ConfigError

__all__ = ["Access", "Cluster", "Exec", "User", "find"]

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True, extra="ignore", frozen=True
    )


class Cluster(_Part):
    """A server, and how it proves itself."""

    server: str = "http://localhost:8080"
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class Variable(_Part):
    """An environment variable."""

    name: str
    value: str = ""


class Exec(_Part):
    """A command that gives credentials."""

    api_version: str = Field(alias="apiVersion", default="client.authentication.k8s.io/v1")
    command: str
    args: list[str] | None = None
    env: list[Variable] | None = None
    install_hint: str = Field(alias="installHint", default="")
    provide_cluster_info: bool = Field(alias="provideClusterInfo", default=False)


class User(_Part):
    """Who we are."""

    token: str = ""
    token_file: str = Field(alias="tokenFile", default="")
    username: str = ""
    password: str = ""
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: Exec | None = None
    auth_provider: dict[str, Any] | None = None
    act_as: str = Field(alias="as", default="")
    as_uid: str = ""
    as_groups: list[str] = Field(default_factory=list)
    as_user_extra: dict[str, list[str]] = Field(default_factory=dict)

    @property
    def impersonation(self) -> Iterator[tuple[str, str]]:
        """Headers by which another is acted for."""
        if self.act_as:
            yield "Impersonate-User", self.act_as
        if self.as_uid:
            yield "Impersonate-Uid", self.as_uid
        for group in self.as_groups:
            yield "Impersonate-Group", group
        for name, values in self.as_user_extra.items():
            for value in values:
                yield f"Impersonate-Extra-{name}", value


class Context(_Part):
    """A user of a cluster."""

    cluster: str = ""
    user: str = ""


class _NamedCluster(_Part):
    name: str
    cluster: Cluster | None = None


class _NamedUser(_Part):
    name: str
    user: User | None = None


class _NamedContext(_Part):
    name: str
    context: Context | None = None


class Kubeconfig(_Part):
    """One file."""

    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """One server, for one of its users; paths are absolute.

    Attributes:
        cluster: The server.
        user: Who we are to it.
        files: What was read, or would have been.
    """

    cluster: Cluster
    user: User
    files: tuple[Path, ...]

    @property
    def named_files(self) -> tuple[Path, ...]:
        """All whose change means that everything is to be read again."""
        named = (self.cluster.certificate_authority, self.user.client_certificate, self.user.client_key)
        return (*self.files, *(Path(each) for each in named if each))


def find(kubeconfig: str | Path | None, context: str | None, service_account: str | Path | None = None) -> Access:
    """Where the server is and who we are.

    Args:
        kubeconfig: A file; None takes those of ``KUBECONFIG`` where it is set, else the pod's service account, else
            ``~/.kube/config``.
        context: Of the file; None takes its current one.
        service_account: Folder of a service account, instead of both.

    Raises:
        ConfigError: There is no such file or context, or it cannot be read.
    """
    if service_account is not None:
        return _of_pod(Path(service_account))
    if kubeconfig is not None:
        return _of_files([Path(kubeconfig).expanduser()], context)
    files = [Path(each).expanduser() for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    if not files and _POD.joinpath("token").exists():
        return _of_pod(_POD)
    return _of_files(files or [Path("~/.kube/config").expanduser()], context)


def _of_pod(folder: Path) -> Access:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(f"no cluster: {folder}: KUBERNETES_SERVICE_HOST is not set")
    token, authority = folder / "token", folder / "ca.crt"
    for file in (token, authority):
        if not file.is_file():
            raise ConfigError(f"no cluster: {file} is not there")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(
        Cluster(server=server, certificate_authority=str(authority)), User.model_validate({"tokenFile": str(token)}), ()
    )


# Files --------------------------------------------------------------------------------------------------------------


def _of_files(paths: list[Path], context: str | None) -> Access:
    where = ", ".join(map(str, paths))
    read = [(path.absolute(), _read(path)) for path in paths if path.exists()]
    if not read:
        raise ConfigError(f"no cluster: {where} is not there, and this is no pod")
    current = context if context is not None else next((k.current_context for _, k in read if k.current_context), "")
    chosen = next((each.context for _, k in read for each in k.contexts or () if each.name == current), None)
    if chosen is None:
        raise ConfigError(f"no cluster: {where} has no context {current!r}")
    clusters = {each.name: _cluster(each.cluster, path) for path, k in reversed(read) for each in k.clusters or ()}
    users = {each.name: _user(each.user, path) for path, k in reversed(read) for each in k.users or ()}
    if chosen.cluster not in clusters:
        raise ConfigError(f"no cluster: {where}: context {current!r} names cluster {chosen.cluster!r}, not defined")
    if chosen.user and chosen.user not in users:
        raise ConfigError(f"no cluster: {where}: context {current!r} names user {chosen.user!r}, not defined")
    if clusters[chosen.cluster].proxy_url:
        raise ConfigError(f"no cluster: {where}: cluster {chosen.cluster!r} has a proxy-url, which is not supported")
    return Access(clusters[chosen.cluster], users.get(chosen.user) or User(), tuple(paths))


def _read(path: Path) -> Kubeconfig:
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
        return Kubeconfig.model_validate({} if given is None else given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise ConfigError(f"no cluster: {path}: {field}: {first['msg']}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"no cluster: {path}: {' '.join(str(error).split())}") from None


PartT = TypeVar("PartT", bound=_Part)


def _absolute(part: PartT, file: Path, *fields: str) -> PartT:
    known: Mapping[str, str] = {name: getattr(part, name) for name in fields}
    return part.model_copy(update={name: str(file.parent / value) for name, value in known.items() if value})


def _cluster(given: Cluster | None, file: Path) -> Cluster:
    return _absolute(given or Cluster(), file, "certificate_authority")


def _user(given: User | None, file: Path) -> User:
    user = _absolute(given or User(), file, "token_file", "client_certificate", "client_key")
    if user.exec is None or os.sep not in user.exec.command:
        return user
    return user.model_copy(update={"exec": _absolute(user.exec, file, "command")})


def decoded(data: str, what: str) -> bytes:
    """What stands in a ``-data`` field.

    Raises:
        ConfigError: It is no base64.
    """
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise ConfigError(f"{what} is no base64") from None
