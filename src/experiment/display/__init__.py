"""What a person sees while a study runs: the console, progress, and the file that src.status reads."""
