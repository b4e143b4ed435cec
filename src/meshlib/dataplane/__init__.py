"""What happens to one request, without ever waiting: read ``call`` first.

Nothing here opens a socket, reads a clock, sleeps or draws from a global source of randomness; time and randomness
come in as arguments. The two files of ``drivers`` do the waiting.
"""
