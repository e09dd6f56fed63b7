"""The course's headline figures, measured: `python -m edgelab.bench TOPIC` prints them beside their goals.

Ratios are measured in one run, one against the other, on one thread; accuracies on all test images.
"""
