"""Lab 03: how good int8 is without training, and how much faster here."""
