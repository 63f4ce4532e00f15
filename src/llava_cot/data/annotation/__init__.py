"""Having a teacher write the stages of every answer, and keeping what it wrote."""
