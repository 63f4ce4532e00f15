"""Annotation: a teacher writes the stages of every answer, they are checked, and a data set is written."""
