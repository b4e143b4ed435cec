"""Istio's validation of single objects: what the API server's webhook refuses or warns about."""

from meshlib.config.validation.check import validate
from meshlib.config.validation.mesh_config_given import mesh_config_given

__all__ = ["mesh_config_given", "validate"]
