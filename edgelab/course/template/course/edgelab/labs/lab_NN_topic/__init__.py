"""Lab NN: which layers hold a network's weights, and which do its work."""
