"""What belongs to one lab: a folder for each, with its self-checks (`check`), its explorers, and what it measures with.

The kit that they are made of is in `edgelab.explore` and in `edgelab.course.check`.
"""
