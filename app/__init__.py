"""Verbs: what a person runs. Knows flags, files, training, publishing, pictures."""
