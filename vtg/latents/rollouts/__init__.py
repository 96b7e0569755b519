"""Futures longer than a predictor was trained on, and how wrong they are by seconds ahead."""
