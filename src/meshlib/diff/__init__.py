"""What a change of configuration does: to recorded requests, or to what was compiled.

``diff`` is pure: two snapshots and requests in, a ``Diff`` out. Nothing is sent and no live state is read.
"""

from meshlib.diff.compare import diff
from meshlib.diff.result import Alarm, Diff, RequestGroup
from meshlib.diff.traffic import Recorded, Traffic, read_traffic

__all__ = ["Alarm", "Diff", "Recorded", "RequestGroup", "Traffic", "diff", "read_traffic"]
