"""Search: an index of entities of all kinds, written in the transaction of each change, and what is found in it.

`words.py` says what a word is, `index.py` writes the index, `match.py` asks for words on both databases, and
`endpoint.py` is the list of what is found.
"""
