"""Small faults in C: what could be written by mistake.

Works on tokens; comments, and with them the contracts, are left alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"(?P<skip>\s+|/\*.*?\*/|//[^\n]*|^\#[^\n]*(?:\\\n[^\n]*)*)"
    r"|(?P<number>\d\w*)|(?P<name>[A-Za-z_]\w*)|(?P<string>\"[^\"]*\")"
    r"|(?P<operator><<=|>>=|->|\+\+|--|<<|>>|[-+*/%&|^<>=!]=|&&|\|\||.)",
    re.DOTALL | re.MULTILINE,
)
REPLACED = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    "|=": ("=", "&="),
    "&=": ("|=",),
    "+=": ("=", "-="),
    "-=": ("=", "+="),
    "++": ("--",),
    "--": ("++",),
    "<<": (">>",),
    "+": ("-",),
    "-": ("+",),
    "*": ("/", "+"),
    "/": ("*",),
    "%": ("*",),
    "|": ("&",),
}
# Before these a - or & has one operand, and a * declares.
OPENS = set("([{,;=<>?:!&|+-*/%") | {"return", "case"} | {*REPLACED, "&&", "||"}
NO_STATEMENT = {"if", "else", "for", "while", "switch", "case", "default", "static", "const"}


@dataclass(frozen=True)
class Token:
    """A word of C and where it stands."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Mutant:
    """One change of a text."""

    start: int
    end: int
    becomes: str
    what: str

    def apply(self, text: str) -> str:
        """The text with the fault."""
        return text[: self.start] + self.becomes + text[self.end :]


def tokens_of(text: str) -> list[Token]:
    """All words but space, comments and lines of the preprocessor."""
    found = (Token(m.lastgroup or "", m.group(), m.start(), m.end()) for m in TOKEN.finditer(text))
    return [token for token in found if token.kind != "skip"]


def operators(tokens: list[Token]) -> Iterator[Mutant]:
    """Another operator, or a sign or negation that is missing."""
    for before, token, following in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.kind != "operator":
            continue
        unary = before.text in OPENS
        if token.text == "!" or (token.text == "-" and unary):
            yield Mutant(token.start, token.end, "", f"{token.text} dropped")
        if (unary and token.text in "-&*+") or (token.text == "*" and following.start == token.end):
            continue  # one operand, or a pointer
        for other in REPLACED.get(token.text, ()):
            yield Mutant(token.start, token.end, other, f"{token.text} to {other}")


def constants(tokens: list[Token]) -> Iterator[Mutant]:
    """Numbers, and names in capitals: one more, one less; a reason not given."""
    for token in tokens:
        if token.text.startswith("EMGD_WHY_"):
            yield Mutant(token.start, token.end, "0", f"{token.text} to 0")
        elif token.kind == "number" or (token.kind == "name" and token.text.isupper() and "INT" not in token.text):
            for sign in "+-":
                yield Mutant(token.start, token.end, f"({token.text} {sign} 1)", f"{token.text} {sign} 1")


def closing(tokens: list[Token], opening: int) -> int:
    """Place of the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(tokens)):
        depth += (tokens[place].text in "([{") - (tokens[place].text in ")]}")
        if not depth:
            return place
    raise ValueError("brackets do not match")


def conditions(tokens: list[Token]) -> Iterator[Mutant]:
    """An `if` or a choice that always or never holds."""
    for place, token in enumerate(tokens):
        if token.text == "if":
            inside = tokens[place + 2], tokens[closing(tokens, place + 1) - 1]
        elif token.text == "?":
            first = place
            while tokens[first - 1].text not in {"return", "=", ",", "(", ";"} or tokens[first - 1].text == "(":
                first -= 1
            inside = tokens[first], tokens[place - 1]
        else:
            continue
        for value in "01":
            yield Mutant(inside[0].start, inside[1].end, value, f"condition to {value}")


def statements(tokens: list[Token]) -> Iterator[Mutant]:
    """A statement that is missing. What then does not compile (a declaration) is no mutant."""
    starts = False
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.text in {"if", "for", "while", "switch"}:
            place = closing(tokens, place + 1) + 1
            starts = True
            continue
        if starts and token.kind == "name" and token.text not in NO_STATEMENT:
            end = place
            while tokens[end].text not in ";{":
                end = closing(tokens, end) + 1 if tokens[end].text in "([" else end + 1
            if tokens[end].text == ";":
                yield Mutant(token.start, tokens[end].start, "", "statement dropped")
        starts = token.text in {"{", "}", ";", "else", ":"}
        place += 1


def mutants_of(text: str) -> list[Mutant]:
    """All of a file, in its order, no two alike."""
    tokens = tokens_of(text)
    found = [*operators(tokens), *constants(tokens), *conditions(tokens), *statements(tokens)]
    return sorted({(m.start, m.end, m.becomes): m for m in found}.values(), key=lambda m: (m.start, m.end, m.becomes))
