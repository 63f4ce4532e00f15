"""Data sets: read from public sources, sampled, annotated in stages, checked."""
