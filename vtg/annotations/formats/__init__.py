"""Published data sets, read where they lie."""
