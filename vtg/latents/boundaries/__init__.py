"""Where events begin and end: moments at which what an encoder sees is not what was to be expected."""
