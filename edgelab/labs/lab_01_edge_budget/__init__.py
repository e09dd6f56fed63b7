"""Lab 01: which limit a model breaks on which device."""
