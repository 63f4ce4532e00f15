"""Drawing a sample from sources, none twice and none of a benchmark's."""
