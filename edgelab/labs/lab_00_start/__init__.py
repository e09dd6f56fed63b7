"""Lab 00: what this machine can do, and when a difference between two measurements is real."""
