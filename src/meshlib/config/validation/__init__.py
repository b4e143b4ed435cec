"""Istio's validation of single objects: what the API server's webhook refuses or warns about."""

from meshlib.config.validation.check import validate

__all__ = ["validate"]
