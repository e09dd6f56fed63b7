"""Lab 08: networks that are designed to be light, and what each machine makes of that."""
