"""Models on this machine: checkpoints, and the engine that runs them."""
