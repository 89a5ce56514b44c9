"""A kind of task that the house does not know: how much a text says, one number. See
test_another_kind.py.
"""
