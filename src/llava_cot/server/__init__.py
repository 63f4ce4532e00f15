"""Answering over HTTP, as OpenAI's chat completions, and on a web page."""
