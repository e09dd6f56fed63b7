"""Lab 10: fit a model to a device: a pipeline in the right order, a search, a bound, a rival, a battery."""
