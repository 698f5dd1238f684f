"""Snippets: the content of the script that brings a web project's experiments to its pages.

The script itself is not part of this service. What it would carry is built all the same, as JSON that nobody fetches:
`web_snippet.code_revision` counts how often that has changed, and `js_file_size` is its size in bytes.

`content.py` says what is in it; `build.py` builds it in the transaction of each change, and `datafiles/upkeep.py` when
the time of a schedule has come.
"""
