"""Reports on runs: tables, plots, and every question to look at."""
