"""The pages that a run and a look leave behind: files that open without a network."""

from app.report.document import page
from app.report.looks import look

__all__ = ["look", "page"]
