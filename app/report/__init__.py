"""Self-contained HTML pages: the report of a run, and the inspection of a response."""

from app.report.inspection import inspection_files
from app.report.layout import now
from app.report.pages import page

__all__ = ["inspection_files", "now", "page"]
