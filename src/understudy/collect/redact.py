"""Personal data and keys out of the text: patterns, checksums, and placeholders that stay the same.

Within a row the same value gets the same placeholder (<EMAIL_1>), so that the answer still speaks
of what the question did. Patterns find forms, not meaning: names and addresses stay.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from understudy.records import Message, Tool, dumps, written

# Lengths of the IBAN by country: IBAN registry of SWIFT (ISO 13616).
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
        "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
        "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
        "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
        "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 ",
    )
}
# How keys begin, told first because it is cheap, and their whole forms, as in the public rules of
# the secret scanners (github.com/gitleaks/gitleaks, config/gitleaks.toml).
_KEY_STARTS = {  # a letter that they hold -> beginnings, so that most texts are asked little
    "_": ("sk_", "rk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "npm_"),
    "-": ("sk-", "pk-lf-", "glpat-", "xox", "pypi-", "PRIVATE KEY-"),
    "A": ("AKIA", "ASIA", "AIza"),
    "eyJ": ("eyJ",),
    "earer ": ("earer ",),
}
_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:sk|pk)-(?:lf|ant|proj|svcacct|admin|or)-[\w-]{16,}"  # Langfuse, Anthropic, OpenAI, …
    r"|sk-[A-Za-z0-9]{20,}"
    r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])"  # AWS
    r"|AIza[\w-]{35,}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"  # a JSON web token
    r")"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]+-----END [A-Z ]{0,30}PRIVATE KEY-----"
    r"|(?<=[Bb]earer )[\w.~+/-]{20,}=*"
)
# Where it helps, a pattern begins with its first letter and looks back from there: the engine then
# skips to such letters instead of trying every place.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}+@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_IBAN = re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z][0-9]{2}(?: ?[A-Z0-9]){11,40}")
_NUMBER = re.compile(r"[0-9][0-9 ().:/-]{5,}[0-9]")  # what holds a card, a phone number or an IPv4
# A long run of a pattern's signs is told much faster than the pattern, and most texts hold none.
_OF_IBAN = bytes.maketrans(_SIGNS := b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ", b"0" * len(_SIGNS))
_OF_NUMBER = bytes.maketrans(_SIGNS := b"0123456789 ().:/-", b"0" * len(_SIGNS))
_CARD = re.compile(r"[2-6](?<![\d.].)(?:[ -]?\d){12,18}(?!\d)")
_IPV4 = re.compile(r"\d(?<![\d.].)\d{0,2}(?:\.\d{1,3}){3}(?!\d|\.\d)")
_IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.].)[0-9A-Fa-f:]{1,38}(?![\w:])")
_PHONE = re.compile(
    r"[+(0-9](?<![\w.+-].)(?:"
    r"(?:(?<=\+)|(?<=0)0)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}"  # international, ITU-T E.164
    r"|(?:(?<=\()[2-9]|(?<=[2-9]))\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}"  # North America
    r"|(?<=0)\d(?:[ .-]\d{2}){4}"  # France
    r"|(?:(?<=\()0|(?<=0))\d{2,5}\)?[ /-]\d{3,4}[ -]?\d{3,5}"  # a trunk prefix: Germany, UK, …
    r")(?![\w-]|\.\d)"
)
_SPACING = re.compile(r"[\s().:/-]")


class Kind(NamedTuple):
    """A kind of personal data: where it may be, and whether a match is one."""

    placeholder: str
    may_hold: Callable[[str], bool]
    pattern: re.Pattern[str]
    length: Callable[[str], int]  # of the match, how many characters are it; 0 = it is none


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number fits (ISO/IEC 7812-1, annex B)."""
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0


def iban(text: str) -> int:
    """How many leading characters are an IBAN with the right check digits (ISO 7064, MOD 97-10)."""
    places = [n for n, letter in enumerate(text) if letter != " "]
    length = _IBAN_LENGTHS.get(text[:2], 0)
    if not length or len(places) < length:
        return 0
    compact = "".join(text[place] for place in places[:length])
    number = "".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])
    return places[length - 1] + 1 if int(number) % 97 == 1 else 0


def _card(text: str) -> int:
    digits = re.sub(r"[ -]", "", text)
    return len(text) if len(set(digits)) > 1 and luhn(digits) else 0


def _ipv4(text: str) -> int:
    return len(text) if all(int(part) < 256 for part in text.split(".")) else 0


def _ipv6(text: str) -> int:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return 0
    return len(text) if any(letter.isdigit() for letter in text) else 0


def _phone(text: str) -> int:
    return len(text) if 8 <= sum(letter.isdigit() for letter in text) <= 15 else 0


def _has_key(text: str) -> bool:
    for letter, starts in _KEY_STARTS.items():
        if letter in text and any(start in text for start in starts):
            return True
    return False


def _has_iban(text: str) -> bool:
    signs = text.encode("ascii", "replace").translate(_OF_IBAN)
    return b"0" * 15 in signs and _IBAN.search(text) is not None


def _has_number(text: str) -> bool:
    signs = text.encode("ascii", "replace").translate(_OF_NUMBER)
    return b"0" * 7 in signs and _NUMBER.search(text) is not None


KINDS = {  # in this order, so that a part of one is not taken for another
    "key": Kind("KEY", _has_key, _KEY, len),
    "email": Kind("EMAIL", lambda text: "@" in text, _EMAIL, len),
    "iban": Kind("IBAN", _has_iban, _IBAN, iban),
    "card": Kind("CARD", _has_number, _CARD, _card),
    "ip": Kind("IP", _has_number, _IPV4, _ipv4),
    "ipv6": Kind("IP", lambda text: text.count(":") >= 2, _IPV6, _ipv6),
    "phone": Kind("PHONE", _has_number, _PHONE, _phone),
}
CHOICES = tuple(kind for kind in KINDS if kind != "ipv6")  # addresses are one choice


def redact_row(
    messages: list[Message],
    tools: list[Tool] | None,
    kinds: Collection[str],
    counts: dict[str, int],
) -> tuple[list[Message], list[Tool] | None]:
    """Return a conversation and its tools without the data of these kinds, arguments of calls too.

    Names of tools and of their arguments stay, since a call must fit its tool.
    """
    whole = "\n".join([*map(written, messages), *([dumps(tools)] if tools else [])])
    has_number = _has_number(whole)
    found = [
        name
        for name, kind in _chosen(tuple(kinds))
        if (has_number if kind.may_hold is _has_number else kind.may_hold(whole))
    ]
    if not found:
        return messages, tools
    clean = partial(_clean, kinds=found, names={}, counts=counts)
    made = []
    for turn in messages:
        turn = turn | {"content": clean(turn["content"])}
        if "tool_calls" in turn:
            calls = [one | {"arguments": clean(one["arguments"])} for one in turn["tool_calls"]]
            turn = turn | {"tool_calls": calls}
        made.append(turn)
    return made, clean(tools)


def _clean(
    value: Any, kinds: Collection[str], names: dict[tuple[str, str], str], counts: dict[str, int]
) -> Any:
    """A value without such data, however deep; no closure, which would be a cycle for each row."""
    if isinstance(value, str):
        return _redacted(value, kinds, names, counts)
    if isinstance(value, list):
        return [_clean(one, kinds, names, counts) for one in value]
    if isinstance(value, dict):
        return {key: _clean(one, kinds, names, counts) for key, one in value.items()}
    return value


@cache
def _chosen(choices: tuple[str, ...]) -> list[tuple[str, Kind]]:
    return [(n, kind) for n, kind in KINDS.items() if ("ip" if n == "ipv6" else n) in choices]


def _redacted(
    text: str,
    kinds: Collection[str],
    names: dict[tuple[str, str], str],
    counts: dict[str, int],
) -> str:
    for name in kinds:
        kind, pieces, end = KINDS[name], list[str](), 0
        if kind.may_hold is not _has_number and not kind.may_hold(text):
            continue
        for start, stop in _found(kind, text):
            value = text[start:stop].casefold()
            if name in ("iban", "card", "phone"):
                value = _SPACING.sub("", value)
            place = (kind.placeholder, value)
            if place not in names:
                number = 1 + sum(known == kind.placeholder for known, _ in names)
                names[place] = f"<{kind.placeholder}_{number}>"
            pieces += [text[end:start], names[place]]
            end = stop
            counted = "ip" if name == "ipv6" else name
            counts[counted] = counts.get(counted, 0) + 1
        if pieces:
            text = "".join([*pieces, text[end:]])
    return text


def _found(kind: Kind, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while (match := kind.pattern.search(text, at)) is not None:
        length = kind.length(match[0])
        if length:
            yield match.start(), match.start() + length
        at = match.start() + (length or 1)
