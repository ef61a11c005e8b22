"""A local module for evaluate.load; see classification.py."""
