"""One concern a file: small objects around live state; time and randomness come in as arguments."""
