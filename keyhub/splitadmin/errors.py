class SplitError(Exception):
    """The move cannot go on; the text is one sentence for people, and what was there goes on being served."""
