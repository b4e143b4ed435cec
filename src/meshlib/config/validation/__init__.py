"""Istio's validation of single objects: what the API server's webhook and ``istioctl validate`` refuse or warn about."""

from meshlib.config.validation.check import validate

__all__ = ["validate"]
