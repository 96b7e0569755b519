"""A checkpoint behind an endpoint of OpenAI's chat protocol."""
