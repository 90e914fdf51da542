"""One function per command, in the module of its name, each read top to bottom."""
