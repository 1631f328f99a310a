"""The benchmark suite: one registry of cases and their peers, measured in one process."""
