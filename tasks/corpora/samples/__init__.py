"""Embedded samples: generated, seeded corpora that need no files and no network."""
