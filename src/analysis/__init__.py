"""What saved adapters did to their base: thin-factor algebra, W0's own SVD, and small evaluations. Trains nothing."""
