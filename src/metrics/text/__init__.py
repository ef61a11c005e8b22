"""A local module for evaluate.load; see text.py."""
