"""Takes secrets out of texts before they are kept or shown, and bounds what is kept of them.

It masks too much rather than too little: a masked word costs a look at the log, a kept password costs more.
Every pattern is bounded, so a hostile text of any size costs milliseconds.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from functools import cache
from typing import Any, NamedTuple

MASK = "***"
LONGEST_TEXT = 2000
"""Characters kept of one text."""

_READ = 20_000  # characters looked at; what follows is cut off before anything else
_MOST_ITEMS = 50
_DEEPEST = 6

_NAME = r"(?:password|passwd|passphrase|passwort|pwd|token|secret|credential|signature|cookie|jwt|apikey)[\w.-]{0,40}"
_VALUE = r"""(?:"(?:\\.|[^"\\]){0,2000}"|'(?:\\.|[^'\\]){0,2000}'|[^\s"'][^\s]{0,2000})"""

# Names that end in "key" and hold no secret.
_HARMLESS_KEYS = frozenset(
    f"{what}_key"
    for what in ("partition", "period", "idempotency", "primary", "foreign", "sort", "group", "day", "dedup")
)

_IS = r"""["']?\s{0,4}(?:=>|[=:])\s{0,4}"""
_NO_NAME = r"(?<![\w.])"  # a header is not the end of a table's name, as in public.payment_authorization
_IS_IN_PROSE = r"""(?:["']?\s{0,4}=>?|["']\s{0,4}:)\s{0,4}"""  # a colon may just follow the name of a table or an index


class _Patterns(NamedTuple):
    private_key: re.Pattern[str]
    url: re.Pattern[str]
    header: re.Pattern[str]
    scheme: re.Pattern[str]
    named: re.Pattern[str]
    key: re.Pattern[str]
    known: re.Pattern[str]


@cache
def _patterns(is_: str, before_header: str) -> _Patterns:
    """Compile the patterns at their first use: that takes longer than all imports of a short task."""
    return _Patterns(
        private_key=re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S
        ),
        url=re.compile(r"""([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s'"<>]{1,1000})@"""),
        header=re.compile(
            before_header + r"""(?:((?:proxy-)?authorization["']?\s{0,4}[:=]\s{0,4}["']?)[^\r\n"']{1,2000}"""
            r"""|((?:set-)?cookie["']?\s{0,4}:\s{0,4}["']?)[^\r\n"']{1,2000})""",
            re.I,
        ),
        scheme=re.compile(r"\b(bearer|basic)\s{1,4}[A-Za-z0-9._~+/=-]{6,4000}", re.I),
        named=re.compile(rf"({_NAME}{is_}|--[\w-]{{0,40}}{_NAME}\s{{1,4}}){_VALUE}", re.I),
        key=re.compile(rf"([\w.-]{{0,60}}key)({is_})({_VALUE})", re.I),
        known=re.compile(
            r"\beyJ[\w-]{8,4000}\.[\w-]{1,4000}(?:\.[\w-]{0,4000})?"  # JSON web token
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_\w{20,255}|\bxox[abeprs]-[\w-]{10,255}"
            r"|\b[rs]k_(?:live|test)_\w{10,255}|(?<=hooks\.slack\.com/services/)[\w/]{10,255}"
        ),
    )


def mask(text: str) -> str:
    """Return the text with its secrets replaced by ``***``.

    Masked are passwords in URLs, values of names with password, token, secret, key and the like (as key=value, key:
    value or JSON), authorization headers and cookies, private keys and the known forms of access tokens. Only the
    first 20,000 characters are looked at; the rest is dropped, never passed on unseen.
    """
    return _masked(text, _patterns(_IS, ""))


def mask_sentence(text: str) -> str:
    """Return a sentence of our own with its secrets replaced as by ``mask``, and the names in it left readable.

    In "public.api_tokens: another session holds a lock" nothing is secret: after a colon a value is masked only when
    the name before it stands in quotes, as in JSON.
    """
    return _masked(text, _patterns(_IS_IN_PROSE, _NO_NAME))


def mask_sample(text: str, longest: int) -> str:
    """Return at most ``longest`` characters of a text of strangers, a line of a log or the name of a key, masked.

    Whatever might be a secret becomes ``***``, also long numbers and words with digits in them; control characters
    become question marks. At most 4,000 characters are looked at, the rest is dropped.
    """
    text = re.sub(r"[\x00-\x1f\x7f]", "?", text[:4000].encode("utf-8", "replace").decode())
    for pattern, replacement in _sample_patterns():
        text = pattern.sub(replacement, text)
    return text[:longest]


@cache
def _sample_patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    names = (
        r"(?:access_|refresh_|id_|api_?|x-?)?"
        r"(?:token|key|secret|passw(?:or)?d|pass|pwd|signature|sig|auth|session(?:id)?|jwt|code|credential)s?"
    )
    return (
        (re.compile(r"(authorization\W{1,4})[^\"]*", re.I), r"\1***"),
        (re.compile(r"\b(bearer|basic|digest)\s+[^\s\"]+", re.I), r"\1 ***"),
        (re.compile(rf"\b({names}[\"']?\s*(?:=|:|%3d)\s*[\"']?)[^\s&;,\"']+", re.I), r"\1***"),
        (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
        (re.compile(r"\b(?:0x)?[0-9a-fA-F]{16,}"), "***"),
        (re.compile(r"[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{8,}){2}"), "***"),
        (re.compile(r"(?=[A-Za-z0-9+_-]*\d)(?=[A-Za-z0-9+_-]*[A-Za-z])[A-Za-z0-9+_-]{20,}={0,2}"), "***"),
    )


def _masked(text: str, of: _Patterns) -> str:
    text = of.private_key.sub(MASK, text[:_READ])
    text = of.url.sub(_mask_url, text)
    text = of.header.sub(lambda found: f"{found[1] or found[2]}{MASK}", text)
    text = of.scheme.sub(rf"\1 {MASK}", text)
    text = of.named.sub(rf"\1{MASK}", text)
    text = of.key.sub(_mask_key, text)
    return of.known.sub(MASK, text)


def _mask_url(found: re.Match[str]) -> str:
    user, colon, _ = found[2].partition(":")
    if colon:
        return f"{found[1]}{user}:{MASK}@"
    # Without a colon it is a token for web addresses and a login elsewhere.
    return f"{found[1]}{MASK}@" if found[1].lower().startswith("http") else found[0]


def _mask_key(found: re.Match[str]) -> str:
    name = found[1].lower()
    # A bare "key" before a colon is English ("the key: ..."), before an equals sign it is a parameter.
    if name in _HARMLESS_KEYS or (name == "key" and "=" not in found[2]):
        return found[0]
    return f"{found[1]}{found[2]}{MASK}"


def is_secret_name(name: str) -> bool:
    """Tell whether a field of this name holds a secret."""
    name = name.lower()
    if re.search(_NAME, name):
        return True
    return name.endswith("key") and name != "key" and name not in _HARMLESS_KEYS


def bounded(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return the text masked, storable (no NUL, no half characters) and no longer than ``longest`` characters."""
    text = mask(text.encode("utf-8", "replace").decode().replace("\x00", ""))
    if len(text) <= longest:
        return text
    note = " … (cut)"
    return text[: longest - len(note)] + note


def bounded_facts(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can hold it: texts masked and bounded, secret fields masked, 50 items a level at most."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if depth < _DEEPEST and isinstance(value, dict):
        return {
            bounded(_text(key), 200): MASK if is_secret_name(_text(key)) else bounded_facts(item, depth + 1)
            for key, item in list(value.items())[:_MOST_ITEMS]
        }
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [bounded_facts(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
    return bounded(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # whatever an object's own __str__ does
        return f"<{type(value).__name__}>"
