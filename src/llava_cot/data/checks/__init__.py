"""Checking records, and choosing some of them to look at."""
