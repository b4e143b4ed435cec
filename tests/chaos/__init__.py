"""Real servers that misbehave, and what must hold whatever they do."""
