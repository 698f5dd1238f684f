"""What a comparison shows: progress, tables, charts and the page."""
