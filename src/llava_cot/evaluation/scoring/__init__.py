"""The rules by which benchmarks are scored, one file each, and how a scorer is asked."""
