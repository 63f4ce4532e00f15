"""Preference pairs and winning answers from traces."""
