"""A local module for evaluate.load; see regression.py."""
