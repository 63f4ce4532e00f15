"""Benchmarks, runs of methods over them, and reports."""
