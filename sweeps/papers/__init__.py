"""Figures in the shape of a paper's, for questions that ask what it asked."""
