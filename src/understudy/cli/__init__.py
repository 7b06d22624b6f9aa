"""The command line: one module per verb; `main` is the table of verbs."""
