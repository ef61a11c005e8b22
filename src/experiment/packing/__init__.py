"""Which cells train together: how many fit and train fastest, in what company, and who follows whom."""
