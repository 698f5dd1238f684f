"""Answers to questions about an experiment's results: read, divided, measured and judged."""
