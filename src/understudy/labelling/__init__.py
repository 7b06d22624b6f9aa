"""Human labels: which answers to show, the page they are given on, and reading them back."""
