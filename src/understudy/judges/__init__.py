"""Tables of verdicts that anybody has: what their columns mean, and what their judges do."""
