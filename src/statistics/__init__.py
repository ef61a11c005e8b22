"""Intervals, tests and rankings: numbers in, numbers out; knows nothing of records."""
