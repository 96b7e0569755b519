"""vtg's models within evaluation harnesses of others: their tasks and prompts, and vtg's own input path underneath."""
