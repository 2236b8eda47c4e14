"""Real lasers, one driver a file."""
