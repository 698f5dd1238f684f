"""The output of a comparison: progress, tables, charts and the page."""
