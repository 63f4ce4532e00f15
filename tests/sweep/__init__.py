"""Tiny checkpoints of every architecture that the engine runs, each in its family's layout."""
