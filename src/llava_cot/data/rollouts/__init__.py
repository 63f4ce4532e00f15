"""Training data for the self-judge: a model's own candidates, labelled."""
