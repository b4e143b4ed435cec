"""Who runs behind an endpoint: the names that metrics carry and identities are made of.

Source: Istio ``pkg/kube/labels``, ``GetWorkloadMetaFromPod``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meshlib.config.resources.base import ObjectMeta
from meshlib.model.endpoint import Workload

__all__ = ["workload_name", "workload_of"]

_CRON_JOB = re.compile(r"(.+)-\d{8,10}")


def workload_of(labels: Mapping[str, str], name: str, namespace: str, account: str = "", cluster: str = "") -> Workload:
    """Names for metrics, by Istio's order of label precedence."""
    canonical = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name")
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("app.kubernetes.io/version")
    return Workload(
        name,
        namespace,
        canonical or labels.get("app") or name,
        revision or labels.get("version") or "latest",
        cluster,
        account,
    )


def workload_name(pod: ObjectMeta) -> str:
    """The name of what made the pod: a Deployment (not its ReplicaSet), a CronJob (not its Job), else its owner.

    A pod that nobody made, or whose owner is not named, has its own name.
    """
    owner = _owner(pod)
    name, kind = str(owner.get("name", "")), owner.get("kind")
    if kind == "ReplicaSet":
        suffix = "-" + pod.labels.get("pod-template-hash", "")
        return name.removesuffix(suffix) if len(suffix) > 1 else name
    if kind == "ReplicationController":
        return pod.labels.get("deploymentconfig") or name
    if kind == "Job" and (cron := _CRON_JOB.fullmatch(name)):
        return cron[1]
    return name or pod.name


def _owner(pod: ObjectMeta) -> Mapping[str, Any]:
    owners = (pod.model_extra or {}).get("ownerReferences") or ()
    return next((owner for owner in owners if isinstance(owner, Mapping) and owner.get("controller")), {})
