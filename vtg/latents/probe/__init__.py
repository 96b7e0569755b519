"""What frozen latents tell of queries without any language model: cheap references for grounding."""
