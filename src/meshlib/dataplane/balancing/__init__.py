"""Which endpoint: pickers over live endpoint states. ``pick`` is the door, the algorithms stand beside it."""
