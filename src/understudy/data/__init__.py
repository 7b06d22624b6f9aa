"""Real pairs: collecting, splitting, and the nested subsets of human and synthetic rows."""
