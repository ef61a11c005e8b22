"""LoRA sweep harness: which weight matrices to adapt, and what rank suffices."""
