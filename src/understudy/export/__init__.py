"""A finished model as a directory to take into use, checked against the judged one."""
