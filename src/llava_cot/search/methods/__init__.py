"""The inference-time scaling methods, one file each."""

from llava_cot.search.methods.base import METHODS, Method, method

__all__ = ["METHODS", "Method", "method"]
