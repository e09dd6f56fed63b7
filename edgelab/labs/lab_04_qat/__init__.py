"""Lab 04: how far below 8 bits training can hold accuracy."""
