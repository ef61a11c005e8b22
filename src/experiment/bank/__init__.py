"""Many adapters served over one base, and what it costs."""
