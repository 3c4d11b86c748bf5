"""Ranked object proposals of pictures: a mask, a box and a score each."""
