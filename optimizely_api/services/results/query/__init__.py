"""Queries for an experiment's results: read the question, divide the time, measure, judge, compose the response."""
