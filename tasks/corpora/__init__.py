"""Readers of corpora: one per form of example, and the file formats that they share."""
