"""What one object cannot show: whether all of them fit together. The codes are those of ``istioctl analyze``."""

from __future__ import annotations

from meshlib.config.analyze.run import ANALYZERS, ON_DEMAND, analyze

__all__ = ["ANALYZERS", "ON_DEMAND", "analyze"]
