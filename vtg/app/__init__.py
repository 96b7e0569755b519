"""The page on which one looks: videos, their moments on a timeline, and what models answer."""
