"""A method, a judge, a model and a benchmark for llava-cot, registered in pyproject.toml."""
