"""Where to look: axes of values, and how each is written on the command line. Knows nothing of how runs are executed."""
