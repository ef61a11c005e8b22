"""The report's sections, one module each; each turns material into blocks."""
