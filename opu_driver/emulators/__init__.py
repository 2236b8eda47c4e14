"""Things that stand in for devices and speak their protocols, for tests and demonstrations."""
