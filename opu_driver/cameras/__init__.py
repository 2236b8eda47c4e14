"""Real cameras, one driver a file; vendors' libraries are imported when a camera is opened."""
