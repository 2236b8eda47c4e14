"""Drivers of real modulators, one a file."""
