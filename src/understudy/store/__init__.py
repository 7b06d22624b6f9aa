"""Stage directories, row logs, locks and progress on disk."""
