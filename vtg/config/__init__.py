"""Settings: their schema, what they must satisfy, and how they are loaded from conf/ and the command line."""
