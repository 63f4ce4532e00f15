"""Benchmarks, runs of methods over them, scores, statistics and what reports say."""
