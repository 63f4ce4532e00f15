"""Models: one protocol; checkpoints on this machine, servers, reward models."""
