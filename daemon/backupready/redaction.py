"""What must nobody outside this machine read? Signatures, tokens, passwords and keys, in any text of it.

In doubt it is taken for a secret: a word too few can be asked for again, a secret cannot be called back.
"""

from __future__ import annotations

import re

REDACTED = "[redacted]"

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,60}-----(?:.{0,32768}?-----END [A-Z0-9 ]{0,60}-----|.{0,32768})", re.DOTALL)
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")

# Who somebody is in an address, or in a proxy's that is written without a scheme.
_USER = re.compile(r"(://|=\s{0,4}(?=[^\s:/@\"'<>]{1,200}:))[^\s\"'<>]{1,500}(?=@)")

# The signature of a shared access address, and whatever calls itself a key, a token, a password or a secret, in the
# ways that programs write a name and a value; also in an address in an address, in an element of XML, and as an option
# whose value stands after a blank. Quotes may be escaped, several times over.
_NAME = (
    r"(?:sig(?:nature)?|token|key|passw(?:or)?d|pwd|passphrase|secret|authorization|credentials?|cookie"
    r"|protectedsettings|connectionstring)"
)
_VALUE = (
    r"(?!(?:null|none|true|false|\"\"|'')(?:[\s,;}\])]|\Z))(?:(?:Bearer|Basic|Token|SharedKey(?:Lite)?)\s+)?"
    r"(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\+\"[^\"]*\"?|\\+'[^']*'?|&quot;[^&]*|[^\s&\"',;<]+)"
)
_SECRET = re.compile(
    rf"({_NAME}(?:\\*[\"']|&quot;|%22)?\s*(?:=>?|:|%(?:25)*3[DA])\s*"
    r"|(?<![\w-])--?[\w-]{0,40}(?:token|key|passw(?:or)?d|secret)\s+(?!-))" + _VALUE,
    re.IGNORECASE | re.DOTALL,
)
_QUOTE = re.compile(r"\\*[\"']")
_ELEMENT = re.compile(
    rf"((?:<[\w:.-]{{0,60}}{_NAME}[^<>]{{0,200}}>|&lt;[\w:.-]{{0,60}}{_NAME}[^<>&]{{0,200}}&gt;)\s*)[^<&\s][^<&]*",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:Bearer|SharedKey(?:Lite)?|Basic)\s+)[\w.~+/:=-]{8,}|\beyJ[\w-]{8,}(?:\.[\w-]*){1,4}", re.I)

# What is long and looks like nothing is encoded: a key, or something encrypted. It may be broken into lines, the last
# of them short; what is padded to its length is encoded too.
_BREAK = r"(?:(?:\\r)?\\n|[\r\n])[ \t]{0,16}"
_LONG = r"[A-Za-z0-9+/_-]{40,}"
_ENCODED = re.compile(
    rf"(?<![A-Za-z0-9+/_-])(?:{_LONG}(?:{_BREAK}{_LONG})*"
    rf"(?:==?|{_BREAK}[A-Za-z0-9+/]{{1,76}}={{0,2}}(?=[\r\n\\\"'<]|\Z))?|[A-Za-z0-9+/_-]{{16,39}}==?(?![\w=]))"
)
# Identifiers and digests in hexadecimal, and paths, are long too.
_PLAIN = re.compile(
    r"[0-9A-Fa-f-]+|[^0-9]+|[^A-Z]+|[^a-z]+"
    r"|/(?:bin|boot|dev|etc|home|lib|lib64|mnt|opt|proc|run|sbin|srv|sys|tmp|usr|var)/(?!.*[^/]{40}).*",
    re.ASCII,
)


def redact(text: str) -> str:
    """The text with `[redacted]` in place of every secret. What names a secret stays."""
    text = _without_ends(_PEM.sub(REDACTED, text)) if "-----" in text else text
    text = _USER.sub(rf"\1{REDACTED}", text) if "@" in text else text
    text = _SECRET.sub(_value, text)
    text = _ELEMENT.sub(rf"\1{REDACTED}", text) if "<" in text or "&lt;" in text else text
    text = _BEARER.sub(lambda match: (match.group(1) or "") + REDACTED, text)
    return _ENCODED.sub(_unless_plain, text)


def _value(match: re.Match[str]) -> str:
    """Quotes stay, so that a document can still be read."""
    value = match.group(2)
    quote = _QUOTE.match(value)
    opening = quote.group() if quote else ""
    closing = opening if len(value) >= 2 * len(opening) and value.endswith(opening) else ""
    return f"{match.group(1)}{opening}{REDACTED}{closing}"


def _unless_plain(match: re.Match[str]) -> str:
    lines = re.split(_BREAK, match.group())
    return match.group() if all(_PLAIN.fullmatch(line) for line in lines) else REDACTED


def _without_ends(text: str) -> str:
    """Without what stands before the end of a block whose beginning is not there: its last, short line and the one
    before. The longer ones are known by their length."""
    kept, done = [], 0
    for end in _PEM_END.finditer(text):
        start = end.start()
        for _ in range(3):
            start = max(text.rfind("\n", max(done, start - 4096), start), done)
        kept += [text[done:start], REDACTED]
        done = end.end()
    return "".join([*kept, text[done:]])
