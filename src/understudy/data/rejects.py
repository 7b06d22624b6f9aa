"""Why a row of somebody's file or log is not taken: what every reader of such rows may raise."""


class BadRow(Exception):
    """Why a row cannot be used."""


class NotWanted(Exception):
    """Why a good row is none of ours, e.g. because a model wrote it."""
