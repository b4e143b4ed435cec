"""Names and levels of the codes that we raise; ``MESH`` codes are our own.

Source: Istio ``pkg/config/analysis/msg/messages.yaml``.
"""

from __future__ import annotations

from meshlib.config.resources.not_honoured import FIELD_NOT_HONOURED, KIND_NOT_HONOURED
from meshlib.model.problem import Level

__all__ = ["CODES"]

_ERROR, _WARNING, _INFO = Level.ERROR, Level.WARNING, Level.INFO

CODES: dict[str, tuple[str, Level]] = {
    "IST0001": ("InternalError", _ERROR),
    "IST0002": ("Deprecated", _WARNING),
    "IST0101": ("ReferencedResourceNotFound", _ERROR),
    "IST0102": ("NamespaceNotInjected", _INFO),
    "IST0103": ("PodMissingProxy", _WARNING),
    "IST0107": ("MisplacedAnnotation", _WARNING),
    "IST0108": ("UnknownAnnotation", _WARNING),
    "IST0109": ("ConflictingMeshGatewayVirtualServiceHosts", _ERROR),
    "IST0110": ("ConflictingSidecarWorkloadSelectors", _ERROR),
    "IST0111": ("MultipleSidecarsWithoutWorkloadSelectors", _ERROR),
    "IST0112": ("VirtualServiceDestinationPortSelectorRequired", _ERROR),
    "IST0116": ("DeploymentAssociatedToMultipleServices", _WARNING),
    "IST0118": ("PortNameIsNotUnderNamingConvention", _INFO),
    "IST0123": ("NamespaceMultipleInjectionLabels", _WARNING),
    "IST0125": ("InvalidAnnotation", _WARNING),
    "IST0126": ("UnknownMeshNetworksServiceRegistry", _ERROR),
    "IST0127": ("NoMatchingWorkloadsFound", _WARNING),
    "IST0128": ("NoServerCertificateVerificationDestinationLevel", _WARNING),
    "IST0129": ("NoServerCertificateVerificationPortLevel", _WARNING),
    "IST0130": ("VirtualServiceUnreachableRule", _WARNING),
    "IST0131": ("VirtualServiceIneffectiveMatch", _INFO),
    "IST0132": ("VirtualServiceHostNotFoundInGateway", _WARNING),
    "IST0134": ("ServiceEntryAddressesRequired", _WARNING),
    "IST0135": ("DeprecatedAnnotation", _INFO),
    "IST0136": ("AlphaAnnotation", _INFO),
    "IST0137": ("DeploymentConflictingPorts", _WARNING),
    "IST0138": ("GatewayDuplicateCertificate", _WARNING),
    "IST0140": ("IngressRouteRulesNotAffected", _WARNING),
    "IST0144": ("InvalidApplicationUID", _WARNING),
    "IST0145": ("ConflictingGateways", _ERROR),
    "IST0148": ("NamespaceInjectionEnabledByDefault", _INFO),
    "IST0149": ("JwtClaimBasedRoutingWithoutRequestAuthN", _ERROR),
    "IST0150": ("ExternalNameServiceTypeInvalidPortName", _WARNING),
    "IST0156": ("UnsupportedGatewayAPIVersion", _ERROR),
    "IST0157": ("InvalidTelemetryProvider", _WARNING),
    "IST0159": ("ConflictingTelemetryWorkloadSelectors", _ERROR),
    "IST0160": ("MultipleTelemetriesWithoutWorkloadSelectors", _ERROR),
    "IST0161": ("InvalidGatewayCredential", _ERROR),
    "IST0162": ("GatewayPortNotDefinedOnService", _WARNING),
    "IST0165": ("ReferencedInternalGateway", _WARNING),
    "IST0166": ("IneffectiveSelector", _WARNING),
    "IST0167": ("IneffectivePolicy", _WARNING),
    "IST0170": ("MultiClusterInconsistentService", _WARNING),
    "IST0171": ("NegativeConditionStatus", _WARNING),
    "IST0172": ("FutureUnsupportedGatewayAPIVersion", _WARNING),
    "IST0173": ("DestinationRuleSubsetNotSelectPods", _ERROR),
    "IST0174": ("UnknownDestinationRuleHost", _WARNING),
    "IST0175": ("JwksUriFetchUnrestricted", _WARNING),
    "IST0176": ("GatewayAPICRDVersionBelowMinimum", _WARNING),
    "IST0177": ("ConflictingServiceEntryProtocol", _WARNING),
    "MESH001": ("DuplicateResource", _WARNING),
    "MESH002": ("IdentityWithoutMutualTLS", _WARNING),
    "MESH003": ("SubsetNotInForce", _WARNING),
    "MESH004": ("AsteriskIsNoRegex", _INFO),
    "MESH005": ("RetriesWithoutAttempts", _WARNING),
    "MESH006": ("FaultWithoutPercentage", _WARNING),
    "MESH007": ("NoEndpointIsEverEjected", _WARNING),
    "MESH008": ("HiddenDestinationRule", _WARNING),
    "MESH009": ("HostDeclaredTwice", _WARNING),
    "MESH010": (FIELD_NOT_HONOURED[1], _INFO),
    "MESH011": (KIND_NOT_HONOURED[1], _INFO),
    "MESH012": ("CredentialWithoutWorkloadSelector", _WARNING),
    "MESH013": ("OutboundTrafficPolicyWithoutMode", _WARNING),
    "MESH020": ("ClientPolicyHostNotFound", _WARNING),
    "MESH021": ("ClientPolicySubsetNotFound", _WARNING),
    "MESH022": ("ConflictingClientPolicies", _WARNING),
    "MESH023": ("BreakerNeverOpens", _WARNING),
    "MESH024": ("RetryBudgetTwice", _WARNING),
}
