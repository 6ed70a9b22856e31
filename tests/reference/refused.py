"""How the naive exchange refuses a command."""

from engine.rejects import RejectCode


class Refused(Exception):
    def __init__(self, code: RejectCode, bound: int = 0) -> None:
        super().__init__(code, bound)
        self.code, self.bound = code, bound
