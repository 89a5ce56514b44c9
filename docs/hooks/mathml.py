"""Formulas of a page ($…$ and $$…$$, as GitHub shows them) as MathML, which a browser draws by
itself: no script, no font, no network.

The part of LaTeX that the pages use; what is not known here is an error that names it.
"""

from __future__ import annotations

import re
from html import escape

SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ϵ", "theta": "θ", "lambda": "λ", "mu": "μ",
    "rho": "ρ", "sigma": "σ", "phi": "ϕ", "odot": "⊙", "cdot": "⋅", "times": "×", "sim": "∼",
    "in": "∈", "mid": "∣", "le": "≤", "ge": "≥", "approx": "≈", "dots": "…", "top": "⊤",
    "lVert": "‖", "rVert": "‖", "|": "‖", "{": "{", "}": "}", "infty": "∞", "to": "→",
}  # fmt: skip
FUNCTIONS = ("log", "ln", "exp", "max", "min", "softmax")
SPACES = {",": ".17em", ";": ".28em", " ": ".3em", "quad": "1em", "qquad": "2em", "!": "-.17em"}
BIG = ("big", "Big", "left", "right")  # the bracket after it
ALPHABETS = {"mathcal": 0x1D49C, "mathbb": 0x1D538}
# Letters that Unicode had before it had the alphabets.
HAD = {"mathcal": {"L": "ℒ", "N": "𝒩"}, "mathbb": {"E": "𝔼", "R": "ℝ", "N": "ℕ"}}
SUM, BRACE = '<mo class="sum">∑</mo>', '<mrow class="brace">'
TOKEN = re.compile(r"\\([a-zA-Z]+|.)|([0-9]+(?:[.,][0-9]+)*)|(\s+)|(.)", re.S)


class UnknownMath(ValueError):
    """A command that this converter does not know."""


def mathml(formula: str, *, display: bool) -> str:
    """
    Raises:
        UnknownMath: with the command and the formula.
    """
    reader = _Reader(formula)
    row = reader.row("")
    kind = ' display="block"' if display else ""
    # A bare bar would part the cells of a table.
    return f"<math{kind}><mrow>{row}</mrow></math>".replace("|", "&#124;")


def with_formulas(markdown: str) -> str:
    """A page with its formulas as MathML; code stays as it is."""
    parts = re.split(r"(^```.*?^```[^\n]*$|`[^`\n]*`)", markdown, flags=re.S | re.M)
    for at in range(0, len(parts), 2):
        text = re.sub(r"\$\$(.+?)\$\$", _displayed, parts[at], flags=re.S)
        parts[at] = re.sub(r"(?<![\\$\w])\$([^$\n]+(?:\n[^$\n]+)?)\$(?!\w)", _inline, text)
    return "".join(parts)


def _displayed(found: re.Match[str]) -> str:
    return f'<div class="formula">{mathml(found[1].strip(), display=True)}</div>'


def _inline(found: re.Match[str]) -> str:
    # Within a span: at the start of a line Markdown would take <math> for a block.
    return f"<span>{mathml(found[1].strip(), display=False)}</span>"


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.tokens = [match for match in TOKEN.finditer(formula) if match[3] is None]
        self.at = 0

    def row(self, end: str) -> str:
        """Everything up to a bracket that closes, scripts attached to what they stand beside."""
        parts: list[str] = []
        while self.at < len(self.tokens):
            if end and self.tokens[self.at][0] == end:
                self.at += 1
                break
            if self.tokens[self.at][0] in "_^":
                base = parts.pop() if parts else "<mrow></mrow>"
                parts.append(self._scripts(base))
            else:
                parts.append(self.atom())
        return "".join(parts)

    def atom(self) -> str:
        command, number, _, other = self._next()
        if number:
            return f"<mn>{number}</mn>"
        if command is not None:
            return self._command(command)
        if other == "{":
            return f"<mrow>{self.row('}')}</mrow>"
        if other.isalpha():
            return f"<mi>{escape(other)}</mi>"
        # A bar that stands by itself is no bracket that would grow.
        stretchy = ' stretchy="false"' if other in "|()[]" else ""
        return f"<mo{stretchy}>{escape({'-': '−', chr(39): '′'}.get(other, other))}</mo>"

    def argument(self) -> str:
        """One digit, letter, command or group: of `\\tfrac12` the 1, then the 2."""
        found = self.tokens[self.at] if self.at < len(self.tokens) else None
        if found is not None and found[2] and len(found[2]) > 1:
            rest = TOKEN.match(self.formula, found.start() + 1)
            assert rest is not None
            self.tokens[self.at] = rest
            return f"<mn>{found[2][0]}</mn>"
        return self.atom()

    def _next(self) -> tuple[str | None, str, str, str]:
        if self.at >= len(self.tokens):
            raise UnknownMath(f"the formula ends too early: {self.formula}")
        found = self.tokens[self.at]
        self.at += 1
        return found[1], found[2] or "", found[3] or "", found[4] or ""

    def _scripts(self, base: str) -> str:
        found: dict[str, str] = {}
        while self.at < len(self.tokens) and self.tokens[self.at][0] in "_^":
            sign = self.tokens[self.at][0]
            self.at += 1
            found[sign] = f"<mrow>{self.argument()}</mrow>"
        below, above = found.get("_"), found.get("^")
        over = base.startswith((SUM, BRACE))
        tags = ("munder", "mover", "munderover") if over else ("msub", "msup", "msubsup")
        if below and above:
            return f"<{tags[2]}>{base}{below}{above}</{tags[2]}>"
        tag = tags[0] if below else tags[1]
        return f"<{tag}>{base}{below or above}</{tag}>"

    def _command(self, name: str) -> str:
        if name in SYMBOLS:
            kind = "mi" if SYMBOLS[name].isalpha() else "mo"
            return f"<{kind}>{SYMBOLS[name]}</{kind}>"
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"></mspace>'
        if name in FUNCTIONS:
            return f'<mi>{name}</mi><mspace width=".12em"></mspace>'
        if name in BIG:
            return self.atom()
        if name == "sum":
            return SUM
        return self._with_arguments(name)

    def _with_arguments(self, name: str) -> str:
        if name in ("frac", "tfrac"):
            above, below = self.argument(), self.argument()
            fraction = f"<mfrac>{above}{below}</mfrac>"
            small = '<mstyle displaystyle="false">{}</mstyle>'
            return small.format(fraction) if name == "tfrac" else fraction
        if name == "sqrt":
            return f"<msqrt>{self.atom()}</msqrt>"
        if name == "bar":
            return f'<mover accent="true">{self.atom()}<mo stretchy="false">¯</mo></mover>'
        if name == "underbrace":
            return f"{BRACE}{self.argument()}</mrow>"
        if name in ("text", "mathrm"):
            return self._words(name)
        if name in ALPHABETS:
            letter = self._letters()
            plain = chr(ALPHABETS[name] + ord(letter) - ord("A"))
            return f"<mi>{HAD[name].get(letter, plain)}</mi>"
        raise UnknownMath(f"\\{name} is not known to docs/hooks/mathml.py: {self.formula}")

    def _letters(self) -> str:
        """What stands in braces, or the one letter, as it is written."""
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "{":
            start = self.tokens[self.at].end()
            while self.tokens[self.at][0] != "}":
                self.at += 1
            end = self.tokens[self.at].start()
            self.at += 1
            return self.formula[start:end]
        return self._next()[3]

    def _words(self, name: str) -> str:
        words = escape(self._letters())
        if name == "mathrm":
            return f'<mi mathvariant="normal">{words}</mi>'
        # A space at an end is a space of the sentence.
        return f"<mtext>{words.replace(' ', chr(160))}</mtext>"
