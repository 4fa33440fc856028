"""Tables, figures and the page that show results; pictures of schemas."""

from mmgraph.report.drawing import draw_schema
from mmgraph.report.page import write_report

__all__ = ["draw_schema", "write_report"]
