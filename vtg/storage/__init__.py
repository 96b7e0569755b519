"""Files on disk: written atomically, locked, stamped and bounded; knows nothing of videos or models."""
