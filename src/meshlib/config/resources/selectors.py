"""How objects say which workloads, objects or namespaces they are for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Message

__all__ = [
    "LabelSelector",
    "LabelSelectorRequirement",
    "LabelsSelector",
    "PolicyTargetReference",
    "SelectorOperator",
    "WorkloadSelector",
]


class WorkloadSelector(Message):
    """Workloads that carry all these labels (``istio.type.v1beta1``); empty means all of the namespace."""

    match_labels: Annotated[dict[str, str], Field(max_length=4096)] = Field(default_factory=dict)


class LabelsSelector(Message):
    """The same under ``labels``, as networking kinds spell it."""

    labels: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)


_GROUP = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"


class PolicyTargetReference(Message):
    """The object that a policy is attached to instead of workloads: a Gateway, a Service, a ServiceEntry."""

    group: Annotated[str, Field(max_length=253, pattern=_GROUP)] = ""
    kind: Annotated[str, Field(min_length=1, max_length=63, pattern=_KIND)]
    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: str = ""


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelSelectorRequirement(Message):
    """One comparison."""

    key: str
    operator: SelectorOperator
    values: list[str] = Field(default_factory=list)


class LabelSelector(Message):
    """Kubernetes' selector: all of ``match_labels`` and all of ``match_expressions`` must hold."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: list[LabelSelectorRequirement] = Field(default_factory=list)
