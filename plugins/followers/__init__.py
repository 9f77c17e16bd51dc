"""Followers: what hears, as the input comes, where its beats are and which chords it plays."""
