"""How bytes move: one small pool per endpoint, behind one seam.

``base`` is the seam: a ``Target`` says where and how to connect, a ``WireRequest`` what to send, and both transports,
blocking and cooperative, answer with a ``WireResponse`` or raise ``WireError``.
"""
