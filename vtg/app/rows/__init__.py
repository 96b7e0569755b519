"""Annotation rows looked at, corrected and written: `python -m vtg.app --rows FILE` or `--annotate VIDEOS`.

A row is its text. What is not edited is written back as it stood, and of what is edited only the values that were.
"""
