"""Lab 02: what rounding to b bits costs, and where scale and zero point come from."""
