"""How stages are started."""
