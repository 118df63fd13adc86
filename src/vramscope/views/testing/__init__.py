"""Views of a run of tests: the table of the heaviest ones, and the index page of all of them.

Both take what reports carry: for each test its outcome and its figures, in plain JSON types.
"""
