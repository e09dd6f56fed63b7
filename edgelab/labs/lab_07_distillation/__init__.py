"""Lab 07: whether a teacher helps a student, and when."""
