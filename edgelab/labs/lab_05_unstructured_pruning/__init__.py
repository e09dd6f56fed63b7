"""Lab 05: how many single weights can go, and what their zeros buy."""
