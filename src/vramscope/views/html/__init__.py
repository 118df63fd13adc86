"""The HTML view: one page that holds all it needs and opens offline.

Python writes the figures and the static parts; ``page.js`` draws them with plotly.js, which comes with plotly.
"""

from vramscope.views.html.page import EXTENSION, page_text, write_html

__all__ = ["EXTENSION", "page_text", "write_html"]
