"""Flags of the commands that are no fit."""

import argparse
from typing import NoReturn


class Arguments(argparse.ArgumentParser):
    """A parser whose mistakes are a ValueError of one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}. Try: {self.prog} --help")
