"""What of an encoder is trained: modules by name, the parameters of an optimizer, and a table of both."""

import difflib
from collections.abc import Iterable, Iterator

from torch import nn

from vtg.console import aligned
from vtg.errors import ConfigError
from vtg.latents.encoders.encoder import Encoder

# Names that are told where one matches nothing.
NEAR = 4


def train_modules(encoder: Encoder, names: Iterable[str]) -> None:
    """Un-freezes modules of an encoder's model.

    Args:
        names: dotted names of modules, or parts of them: `layer.23` is a block of V-JEPA 2, `mlp` that of every block.

    Raises:
        ConfigError: for a name that no module has; it lists the nearest.
    """
    modules = {name: module for name, module in encoder.model.named_modules() if name}
    for wanted in names:
        found = [module for name, module in modules.items() if f".{wanted}." in f".{name}."]
        if not found:
            near = difflib.get_close_matches(wanted, modules, n=NEAR, cutoff=0.0)
            kind = encoder.identity.partition("-")[0]
            raise ConfigError(
                f"encoder.trained: no module of the {kind} is called {wanted!r}; near it: {', '.join(near)} (parts of "
                f"names will do, such as {near[0].rpartition('.')[2]!r})"
            )
        for module in found:
            module.requires_grad_(True)


def trained_parameters(*modules: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that an optimizer is to be given: those that are not frozen, each once."""
    seen: set[int] = set()
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def parameter_table(parts: dict[str, nn.Module]) -> str:
    """Parameters of modules by the names that they are given and those of their children, as aligned text."""
    cells = [("part", "parameters", "trained", "frozen")]
    everything: list[nn.Parameter] = []
    for name, module in parts.items():
        inner = module.model if isinstance(module, Encoder) else module
        own = [("", list(inner.parameters(recurse=False)))]
        for child, parameters in own + [(key, list(child.parameters())) for key, child in inner.named_children()]:
            if parameters:
                cells.append(_row(f"{name}.{child}".rstrip("."), parameters))
                everything += parameters
    return "\n".join(line.rstrip() for line in aligned([*cells, _row("all", everything)]))


def _row(name: str, parameters: list[nn.Parameter]) -> tuple[str, str, str, str]:
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return name, f"{total:,}", f"{trained:,}", f"{total - trained:,}"
