"""The three ways a user hears that something is wrong. Each message says the place, the value, and the next step."""


class ConfigError(ValueError):
    """A setting that cannot be: says its key, its value, and what to do."""


class RunError(RuntimeError):
    """What ends a run that was rightly configured: says what happened, and what to do."""


class JointRunError(RunError):
    """A RunError that all processes of a run end with at the same place: the first of them says it."""


class SampleError(ValueError):
    """A row that cannot be used: its video cannot be read, or it does not fit the model. It is skipped and counted."""
