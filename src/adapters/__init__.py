"""LoRA: where it attaches, what it computes, what it costs, and its form on disk."""
