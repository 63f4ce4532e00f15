"""Drawing a sample of questions from sources, without duplicates and without questions of benchmarks."""
