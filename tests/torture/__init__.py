"""Fault injection: clips made to be damaged, and runs of the real command line that are watched, limited and killed."""
