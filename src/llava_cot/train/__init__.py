"""Fine-tuning a vision-language model on staged answers."""
