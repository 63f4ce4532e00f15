"""Ways to show a trace to people: live in a terminal, as a tree, as one page.

Everything here reads the trace (or the events it is built from) and nothing else.
"""
