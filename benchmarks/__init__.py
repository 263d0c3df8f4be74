"""Side-by-side measurements against what a user would pick instead; each prints one ratio from one run."""
