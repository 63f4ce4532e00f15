"""Training data for a judge: candidates of a model, compared by rollouts or by the truth."""
