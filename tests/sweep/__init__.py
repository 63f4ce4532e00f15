"""Tiny checkpoints of every architecture that the engine runs, in their families' layouts, and what they must give."""
