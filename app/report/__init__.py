"""The page that a run leaves behind: one file, which opens without a network."""

from app.report.document import page

__all__ = ["page"]
