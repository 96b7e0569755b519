"""Published evaluators, one file for each family of rules; the table of them is `vtg.evaluation.presets.table`."""
