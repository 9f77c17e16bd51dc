"""Weight files of accomp and of other projects."""
