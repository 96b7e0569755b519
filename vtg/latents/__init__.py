"""Latent video models: what an encoder sees in clips, with the time of all it sees, and what is learned from that."""
