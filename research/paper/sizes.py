"""How large a reproduction is: all numbers that decide how long it takes. Those of training are in arms.yaml.

The full form is to take at most two hours on two cores, and the quick one, which trains nothing, 20 minutes.
"""

from __future__ import annotations

BENCHMARK = "scenes-hard"
QUESTIONS, QUICK_QUESTIONS = 500, 120  # of the benchmark, which each method and each trained model answers

# So many questions, at most and at least, give SWIRES its cut-off; those of scenes are of another split.
CALIBRATION_QUESTIONS, LEAST_CALIBRATION_QUESTIONS = 100, 10

TRAINING_QUESTIONS = 6_400  # hard scenes, from which every way of training learns
TRAINING_SEEDS = 3

# The most new tokens of one sample. The teacher's answers to hard questions have 240 on average, 404 at the
# 90th percentile, and 601 at most of 300.
MINI_TOKENS, OTHER_TOKENS = 700, 2048
