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
# whose value stands after a blank or as the next of a list. Quotes and separators may be escaped, several times over.
_NAME = (
    r"(?:sig(?:nature)?|token|key|passw(?:or)?d|(?<!by)(?<!com)pass(?:phrase|code)?|pwd|(?<![a-z])pw|secret"
    r"|authorization|credentials?|cookie|protectedsettings|connectionstring)"
)
_OPTION = r"(?:token|key|passw(?:or)?d|pass(?:phrase|code)?|pwd|secret)"
_ESCAPED = r"(?:%(?:25){0,8}|\\{1,8}u00|\\{1,8}x|&#x)"
_SEPARATOR = rf"(?:=>?|:|{_ESCAPED}3[DA];?|&#(?:61|58);)"
_QUOTES = rf"(?:\\{{0,8}}[\"']|&quot;|{_ESCAPED}22;?)"
_NEXT = r"(?:\s+|\\{0,8}[\"']\s{0,9},\s{0,9}(?=\\{0,8}[\"']))"
_STRING = (
    r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\+\"[^\"]*\"?|\\+'[^']*'?|&quot;(?:[^&]|&(?!quot;))*(?:&quot;)?"
    r"|\\{1,8}u0022[^\"\r\n]*?(?:\\{1,8}u0022|(?=[\"\r\n])|\Z)"
)
_EMPTY = r"(?!(?:null|none|true|false|\"\"|'')(?:[\s,;}\])]|\Z))"
_VALUE = (
    rf"{_EMPTY}(?:(?:Bearer|Basic|Token|SharedKey(?:Lite)?)\s+)?({_STRING}|(?:[^\s&\"',;<\\]|\\(?!\\{{0,8}}[\"']))+)"
)
_SECRET = re.compile(
    rf"({_NAME}{_QUOTES}?\s*{_SEPARATOR}\s*|(?<![\w-])--?[\w-]{{0,40}}{_OPTION}{_NEXT}(?!-))" + _VALUE,
    re.IGNORECASE | re.DOTALL,
)
_QUOTE = re.compile(r"\\*[\"']|&quot;|\\{1,8}u0022")

# A name and a value that stand each behind a word for it: in a list of JSON or YAML, or as attributes of XML.
_NAMED = rf"\b(?:name|key){_QUOTES}?\s{{0,9}}[:=]\s{{0,9}}{_QUOTES}?[\w.:-]{{0,60}}{_NAME}(?:{_QUOTES}|[\s,;])"
_IS = rf"value{_QUOTES}?\s{{0,9}}[:=]\s{{0,9}}"
_PAIR = re.compile(
    rf"({_NAMED}[^<>{{}}\[\]]{{0,200}}?\b{_IS}){_EMPTY}({_STRING}|[^\r\n\"'<>,}}\]]+)", re.IGNORECASE | re.DOTALL
)
_VALUE_FIRST = re.compile(
    rf"((?<![\w.+/=-]){_IS})"
    r"(\"(?:[^\"\\]|\\.){0,4096}\"|'(?:[^'\\]|\\.){0,4096}'|\\+\"[^\"\\]{0,4096}\\+\"|[\w.+/=-]{1,4096})"
    rf"(?=[\s,]{{1,99}}{_QUOTES}?{_NAMED})",
    re.IGNORECASE | re.DOTALL,
)
_LESS, _MORE = r"(?:<|&lt;)", r"(?:>|&gt;)"
_NAMED_ELEMENT = (
    rf"{_LESS}(?:\w{{1,20}}:)?(?:name|key){_MORE}\s{{0,99}}[\w.:-]{{0,60}}{_NAME}\s{{0,99}}{_LESS}/[\w:]{{1,30}}{_MORE}"
    rf"\s{{0,99}}{_LESS}(?:\w{{1,20}}:)?(?:value|string)[^<>&]{{0,200}}{_MORE}"
    rf"|<[\w:.-]{{1,60}}\s[^<>]{{0,200}}?\b(?:name|key)=[\"'][\w.:-]{{0,60}}{_NAME}[\"'][^<>]{{0,200}}(?<!/)>"
)
_ELEMENT = re.compile(
    rf"((?:{_NAMED_ELEMENT}|<[\w:.-]{{0,60}}{_NAME}[^<>]{{0,200}}>|&lt;[\w:.-]{{0,60}}{_NAME}[^<>&]{{0,200}}&gt;)"
    r"\s*(?:<!\[CDATA\[)?)(?!&lt;)[^<\s](?:[^<&]|&(?!lt;))*",
    re.IGNORECASE,
)

# What has blanks in it and no quotes around it ends with its line: in a file of settings, where blanks stand beside the
# separator of a password, and where it is made of several parts by nature. In a string of a document it ends with that,
# whose last quote is followed by punctuation.
_LINE = re.compile(
    rf"(^[ \t]{{0,16}}[\w.-]{{0,60}}{_NAME}(?:[ \t]{{1,16}}=[ \t]{{0,16}}|[ \t]{{0,16}}:[ \t]{{1,16}}))"
    r"(?!(?:null|none|true|false)[ \t]*$)[^\s\"'][^\r\n]*"
    rf"|((?:(?:passphrase|passcode|cookie)\s{{0,9}}{_SEPARATOR}[ \t]{{0,16}}"
    r"|(?<!/)(?:passw(?:or)?d|pwd|secret)(?:[ \t]{1,16}=[ \t]{0,16}|[ \t]{0,16}:[ \t]{1,16}))"
    rf"(?!(?:null|none|true|false)(?:[\s,;}}\])]|\Z)))(?:[^\s\"'\\]|\\(?!\\{{0,8}}[\"']))"
    r"(?:[^\r\n\"\\]|\\(?!\\{0,8}\")|\\{0,8}\"(?!\s{0,9}(?:[\\,}\]):\"]|$)))*",
    re.IGNORECASE | re.MULTILINE,
)

# Programs that take a password as an option with another name; who somebody is stays.
_COMMAND = re.compile(
    rf"((?<![\w-])(?:-u|--(?:proxy-)?user)(?:{_NEXT}|=)?)"
    r"(\\{0,8}\"[^\s:/\"\\]{1,200}:(?:[^\"\\\r\n]|\\(?!\\{0,8}\"))+|'[^\s:/']{1,200}:[^'\r\n]+"
    r"|(?!\+)[^\s:/\"'\\]{1,200}:(?!//)[^\s\"\\]+)"
    rf"|(\bsshpass\b[^\r\n]{{0,200}}?[\s\"']-p{_NEXT}?"
    rf"|\b(?:mysql|mariadb)[\w-]{{0,20}}\b[^\r\n|;&]{{0,200}}?[\s\"']-p(?=\S))({_STRING}|[^\s\"']+)"
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
    text = _VALUE_FIRST.sub(_value, _PAIR.sub(_value, text))
    text = _ELEMENT.sub(rf"\1{REDACTED}", text) if "<" in text or "&lt;" in text else text
    text = _LINE.sub(lambda match: (match.group(1) or match.group(2)) + REDACTED, text)
    text = _SECRET.sub(_value, text)
    text = _COMMAND.sub(_password, text)
    text = _BEARER.sub(lambda match: (match.group(1) or "") + REDACTED, text)
    return _ENCODED.sub(_unless_plain, text)


def _value(match: re.Match[str]) -> str:
    """Quotes stay, so that a document can still be read."""
    value = match.group(2)
    quote = _QUOTE.match(value)
    opening = quote.group() if quote else ""
    closing = opening if len(value) >= 2 * len(opening) and value.endswith(opening) else ""
    return f"{match.group(1)}{opening}{REDACTED}{closing}"


def _password(match: re.Match[str]) -> str:
    option, user, command, _ = match.groups()
    return f"{option}{user.partition(':')[0]}:{REDACTED}" if option else f"{command}{REDACTED}"


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
