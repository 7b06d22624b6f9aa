r"""Tables in LaTeX's `article`: every sign printed as it is, and no wider than the page.

Needs \usepackage{booktabs,longtable,array,xcolor}. What is too wide for the page is continued
below with the names of its rows; long names and sentences are wrapped.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 345.0  # points of a line: \linewidth of article at 10 points
_GAP = 6.0  # points between columns: 2 \tabcolsep of 3 points
_BREAK = r"\hspace{0pt}"
_NAMES = 0.6  # of the width, for the names of rows
_WRAP = 82.0  # points beyond which text is wrapped
_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "[": "{[}", "]": "{]}"},
    "*": "{*}",  # at the begin of a row it would be the row's before
    **{"`": r"\textasciigrave{}", "–": "--", "—": "---", "−": "$-$", "…": r"\ldots{}"},
    **{"≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "÷": r"$\div$", "±": r"$\pm$"},
    **{"→": r"$\to$", "←": r"$\gets$", "↔": r"$\leftrightarrow$", "≈": r"$\approx$"},
    **{"≠": r"$\neq$", "∞": r"$\infty$", "·": r"$\cdot$", "√": r"$\surd$", "°": r"$^\circ$"},
    **{"“": "``", "”": "''", "„": ",,", "‘": "`", "’": "'", "‚": ",", "«": r"$\ll$"},
    **{"»": r"$\gg$", "•": r"$\bullet$", "✓": r"$\surd$", "✗": r"$\times$", "µ": r"$\mu$"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}"},
    **{"Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "đ": "d", "Đ": "D"},
    **{"§": r"\S{}", "¶": r"\P{}", "†": r"\dag{}", "‡": r"\ddag{}", "©": r"\copyright{}"},
    **{"£": r"\pounds{}", "€": "EUR", "¥": "JPY", "¿": "?`", "¡": "!`", "\u00a0": "~"},
    **{"\u2009": r"\,", "\u202f": r"\,", "\u2011": "-", "\u2010": "-", "\ufffd": "?"},
}
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "="},
    **{"\u0307": ".", "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0306": "u", "\u0327": "c"},
    **{"\u0328": "k", "\u0323": "d", "\u0331": "b"},
}
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (FINAL )?(\w+)")
_OWN_CAPITALS = {
    *("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"),
}


class Column(NamedTuple):
    """A heading, escaped, and whether numbers stand below it."""

    heading: str
    is_number: bool


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is, in ASCII; what it has no sign for by its code."""
    parts = unicodedata.normalize("NFC", " ".join(text.split())).split("--")
    return "-{}-".join("".join(map(_sign, part)) for part in parts)  # -- would be a dash


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign.isascii():
        return sign if sign.isprintable() else "?"
    if greek := _GREEK.match(unicodedata.name(sign, "")):
        return _greek(greek[1] == "CAPITAL", greek[2] is not None, greek[3].lower())
    base, *marks = list(unicodedata.normalize("NFD", sign))
    if marks and base.isascii() and all(mark in _ACCENTS for mark in marks):
        letter = {"i": r"\i{}", "j": r"\j{}"}.get(base, base)
        for mark in marks:
            letter = f"\\{_ACCENTS[mark]}{{{letter}}}"
        return letter
    plain = unicodedata.normalize("NFKD", sign)
    if plain.isascii():
        return "".join(map(_sign, plain))
    is_unseen = unicodedata.category(sign) in ("Cf", "Mn", "Me")
    return "" if is_unseen else f"{{[}}U+{ord(sign):04X}{{]}}"


def _greek(is_capital: bool, is_final: bool, name: str) -> str:
    name = {"lamda": "lambda"}.get(name, name)
    if is_final:
        return r"$\varsigma$"
    if not is_capital:
        return "o" if name == "omicron" else f"$\\{name}$"
    if name in _OWN_CAPITALS:
        return f"$\\{name.capitalize()}$"
    return {"eta": "H", "rho": "P", "chi": "X"}.get(name, name[0].upper())


def red(text: str) -> str:
    """Return text, escaped, in red."""
    return f"\\textcolor{{red}}{{{escape(text)}}}"


def longtable(
    name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> str:
    """Return the table as parts of columns, each as wide as the page; cells are escaped.

    The first columns of words are the names of the rows, and begin every part; where they are too
    wide for that, a number does.
    """
    rows = [
        [cell if columns[n].is_number else _breakable(cell) for n, cell in enumerate(row)]
        for row in rows
    ]
    widths = [_width(column, [row[n] for row in rows]) for n, column in enumerate(columns)]
    heads = 0
    while heads < len(columns) and not columns[heads].is_number:
        heads += 1
    if heads == len(columns) or sum(widths[:heads]) + heads * _GAP > _NAMES * WIDTH:
        numbers = [str(n) for n in range(1, len(rows) + 1)]
        rows = [[number, *row] for number, row in zip(numbers, rows, strict=True)]
        columns, heads = [Column("No.", True), *columns], 1
        widths = [_width(columns[0], numbers), *widths]
    lines = [
        "% needs \\usepackage{booktabs,longtable,array,xcolor}",
        r"{\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\LTleft}{0pt}",
    ]
    for number, part in enumerate(_parts(widths, heads)):
        title = f"\\caption{{{_breakable(escape(caption))}}}\\label{{tab:{name}}}"
        if number:
            title = r"\caption[]{(continued)}"
            lines.append(r"\addtocounter{table}{-1}")
        kinds = "".join(_kind(columns[n], widths[n]) for n in part)
        lines += [
            f"\\begin{{longtable}}{{@{{}}{kinds}@{{}}}}",
            f"{title} \\\\",
            r"\toprule",
            f"{' & '.join(columns[n].heading for n in part)} \\\\",
            r"\midrule\endhead",
            r"\bottomrule\endfoot",
            *(f"{' & '.join(row[n] for n in part)} \\\\" for row in rows),
            r"\end{longtable}",
        ]
    return "\n".join([*lines, "}", ""])


def _parts(widths: Sequence[float], heads: int) -> list[list[int]]:
    """The columns of each part: the names of the rows and as many others as there is room for."""
    names = list(range(heads))
    room = WIDTH - sum(widths[:heads]) - heads * _GAP
    parts = [names[:]]
    used = 0.0
    for n in range(heads, len(widths)):
        if used and used + widths[n] + _GAP > room:
            parts.append(names[:])
            used = 0.0
        parts[-1].append(n)
        used += widths[n] + _GAP
    return parts


def _width(column: Column, cells: Sequence[str]) -> float:
    """Points of a column at 8 points; words are wrapped, numbers are not."""
    widest = max(map(_points, cells), default=0.0)
    if not column.is_number:
        longest = max(map(_points, (word for cell in cells for word in _words(cell))), default=0.0)
        widest = min(widest, max(_WRAP, longest))
    heading = max(map(_points, _words(column.heading)), default=0.0)
    return min(max(widest, heading), WIDTH / 2 - _GAP)


def _breakable(cell: str) -> str:
    """Escaped text that may also be broken within long names."""
    after = re.sub(r"(/|\\_|[.,=-])(?=[A-Za-z])", lambda found: found[1] + _BREAK, cell)
    # No macro of ours is as long as what is broken here.
    return re.sub(r"\b\w{17,}", lambda word: _BREAK.join(re.findall(".{1,16}", word[0])), after)


def _words(text: str) -> list[str]:
    return text.replace(_BREAK, " ").split(" ")


def _points(cell: str) -> float:
    """An upper bound of the width of escaped text in Computer Modern at 8 points."""
    plain = cell.replace(r"\textcolor{red}", "").replace(_BREAK, "")
    plain = re.sub(r"\$\\[a-zA-Z]+\$|\\[a-zA-Z]+\{\}", "M", plain)
    plain = re.sub(r"\\.\{|[{}$\\]", "", plain)
    wide = sum(sign.isupper() or sign in "mw%&@+=<>÷×-—" for sign in plain)
    return 6.6 * wide + 4.6 * (len(plain) - wide)


def _kind(column: Column, width: float) -> str:
    side = "raggedleft" if column.is_number else "raggedright"
    return f">{{\\{side}\\arraybackslash}}p{{{width:.1f}pt}}"
