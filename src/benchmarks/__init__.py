"""Benchmarks of `python -m src.bench`: what is measured, against what, and how it is shown. Nothing else imports it."""
