"""The judges: whatever prefers one candidate to another."""
