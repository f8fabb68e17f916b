"""The H100 that isn't there: its figures, and the time of a launch or a torch operator on it."""
