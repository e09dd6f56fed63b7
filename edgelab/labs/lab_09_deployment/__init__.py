"""Lab 09: one model in four runtimes, whether it is still the same model, and what it takes where it is to live."""
