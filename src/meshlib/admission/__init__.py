"""What a server lets in: its side of mutual TLS, the tokens it believes, the policies that decide.

``Guard`` answers for one workload, from the same objects that istiod would have sent to its sidecar. It never waits:
keys that stand behind a URL are handed in.
"""

from meshlib.admission.guard import Admission, Guard

__all__ = ["Admission", "Guard"]
