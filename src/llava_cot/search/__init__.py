"""Answering one question: the request, the search, the methods and the judges."""
