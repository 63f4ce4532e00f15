"""Preference pairs and winning answers out of traces."""
