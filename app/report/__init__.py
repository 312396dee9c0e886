"""The pages that a run and a look leave behind: files that open without a network."""

from app.report.inspection import look
from app.report.pages import page

__all__ = ["look", "page"]
