"""A checkpoint on a published benchmark, at one or several budgets of input (`python -m vtg.score`)."""
