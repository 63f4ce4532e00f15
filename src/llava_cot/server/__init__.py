"""Answering questions over HTTP, in the shape of OpenAI's chat completions. Only here is HTTP spoken."""
