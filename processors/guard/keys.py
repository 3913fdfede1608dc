"""Finding secrets: keys by the marks their issuers give them, and values assigned to what is named as a secret."""

import base64
import binascii
import re

_MARKED = (
    r"sk-[\w\-]{20,}",  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
    r"AIza[\w\-]{35}",  # Google
    r"ya29\.[\w\-]{30,}",
    r"GOCSPX-[\w\-]{28}",
    r"github_pat_\w{22,}",
    r"gh[oprsu]_[A-Za-z0-9]{36,}",
    r"glpat-[\w\-]{20,}",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",  # Slack
    r"xapp-[A-Za-z0-9\-]{20,}",
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"whsec_[A-Za-z0-9+/=]{24,}",
    r"eyJ[\w\-]{8,}(?:\.[\w\-]*){2,4}",  # JWT, JWE
    r"\d{8,10}:AA[\w\-]{33}",  # Telegram bot
    r"AQVN[\w\-]{30,}",  # Yandex Cloud
    r"t1\.[\w\-]{6,}\.[\w\-]{40,}",
    r"y[0-3]_[\w\-]{30,}",
    r"YC[A-Z][\w\-]{22,}",
    r"hf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[\w\-]{50,}",
    r"SG\.[\w\-]{22}\.[\w\-]{43}",  # SendGrid
    r"gsk_[A-Za-z0-9]{40,}",  # Groq
    r"dop_v1_[0-9a-f]{64}",  # DigitalOcean
    r"hvs\.[\w\-]{24,}",  # HashiCorp Vault
)
_PEM = r"-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
_BASIC = r"[MNOYZ][A-Za-z0-9+/]{40,}={1,2}"
"""Base64 of `uuid:uuid`, GigaChat's authorization key: the first byte is a hexadecimal digit."""
_NAMES = (
    r"passwords?|passphrase|passwd|pwd|(?:\b|_)pass|парол(?:ь|я|ем|и)|api[_\- ]?keys?|"
    r"secret[_\- ]?(?:access[_\- ]?)?key|(?:access|private|auth)[_\- ]?key|client[_\- ]?secret|"
    r"(?:access|auth|refresh|bot)[_\- ]?token|secret|tokens?|"
    r"токена?|секрет|(?:api[_\- ]?)?ключ(?: api| доступа)?|authorization|credentials|bearer"
)
_OF = r"(?:\s(?:от|для|к|на|for|to|of)(?:\s[a-zа-яё\-]{1,20}){1,2})?"
"""Whose secret it is: the password of the mail."""
_IS = (
    r"[\"'*`_\\\]]{0,4}(?:\s{0,2}[:=]{1,2}>?[*_`]{0,3}\s{0,3}(?:- )?|\s?(?:->|→)\s?|\s[—–\-|]\s(?:это\s)?|"
    r"\s(?:is|was|это):?\s|\s|>)(?:<\w{1,8}>)?(?:bearer |basic |token )?[\"'`*(\[«“„\\]{0,3}"
)
"""What stands between name and value, in sentences, code, JSON, YAML, XML, and the emphasis and tables of Markdown."""
_ITS_OWNER = r"(?:password|парол[ья])(?:\s\(?[a-zа-яё\-]{1,20}\)?){1,2}:\s[\"'`*]{0,3}"
"""The same without a preposition: `Пароль администратора базы:`."""
_NAMED = rf"(?:{_ITS_OWNER}|(?:{_NAMES}){_OF}{_IS})"
_ASSIGNED = rf"{_NAMED}[^\s\"'`,;<>]{{6,}}"
_URL = r"[a-z][a-z0-9+.\-]*://[^\s/:@\"'<>]*:[^\s/?\"'<>]+@"
PATTERN = (
    "(?i)(?:" + "|".join([rf"(?:\b|_)(?:{'|'.join(_MARKED)})", _PEM, rf"\b{_BASIC}", _ASSIGNED, rf"\b{_URL}"]) + ")"
)
"""Everything that may be a secret. Issuers' marks are told by case in `find_key`."""

_MARKED_EXACTLY = re.compile("|".join(_MARKED), re.ASCII)
_PEM_BODY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{16,})+(?:(?:\s|\\[nr])*[A-Za-z0-9+/]*={1,2})?"
)
"""Where no line of a key follows, its header is only spoken of."""
_VALUE = re.compile(rf"{_NAMED}(?P<value>[^\s\"'`,;<>]{{6,}})", re.I)
_PASSWORD = re.compile(r"pass|pwd|парол", re.I)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_CODE = re.compile(
    r"[$%{<(\[*#]|\?[=!:<]|\\[dwsb]|a-z|0-9|[a-z]+\||https?:|\W+$|(?:[a-z_]\w*(?:\.|->|::))*[a-z_]\w*[(\[{]",
    re.I,
)
"""Variables, calls, masks, expressions that a value must match."""
_DOTTED, _DIGITS = re.compile(r"(?:[a-z_]\w*\.)+[a-z_]\w*$", re.I), re.compile(r"(?:\d\D*){6}")
"""A name of something in code; what has so many digits is a secret in parts."""
_STANDS_IN = re.compile(
    r"(?:\w{0,10}[_\-])?(?:your|my[_\-]|example|placeholder|change|redacted|insert|x{4}|ваш|пример)", re.I
)
"""What samples write in the place of a secret. Told by the beginning, as a match may be offered with a shorter end."""
_NAME = re.compile(r"[^\W\d_]+(?:[_\-][^\W\d_]+)*[_\-]?\d{0,2}|[a-z_]+\d?[a-z_]*")
"""A plain name, perhaps with a number behind it."""
_WORDED = re.compile(r"[a-z]{4,}\d[a-z]{4,}")
"""Two words and a digit between: a password. Names of that form have shorter words: str2bytes, md5sum."""
_ALGORITHM = re.compile(r"(?:hmac|sha|md|aes|rsa|argon|pbkdf|bcrypt|scrypt|base|oauth|utf|totp)[\-_]?\d", re.I)


def find_key(matched: str, before: str, known: int = 0) -> tuple[int, int] | None:
    """The secret within a match of `PATTERN`, without its name, quotes, and an underscore for emphasis before it."""
    bare = matched.lstrip("_")
    start = len(matched) - len(bare)
    found = _find(bare)
    return (start + found[0], start + found[1]) if found else None


def _find(matched: str) -> tuple[int, int] | None:
    if matched.startswith("-----"):
        body = _PEM_BODY.match(matched)
        return (0, len(matched) if "-----END" in matched.upper() else body.end()) if body else None
    marked = _MARKED_EXACTLY.match(matched)
    if marked:
        return None if _made_of_words(marked.group()) else (0, marked.end())
    if "://" in matched and matched.endswith("@") and not _VALUE.match(matched):
        start = matched.index(":", matched.index("://") + 3) + 1
        value = matched[start:-1]
        return None if _CODE.match(value) or _STANDS_IN.match(value) else (start, len(matched) - 1)
    if re.fullmatch(_BASIC, matched):
        return (0, len(matched)) if _is_basic(matched) else None
    return _assigned(matched)


def _assigned(matched: str) -> tuple[int, int] | None:
    found = _VALUE.match(matched)
    if found is None:
        return None
    marked = _MARKED_EXACTLY.match(found["value"])
    if marked and not _made_of_words(marked.group()):
        return found.start("value"), found.start("value") + marked.end()
    value = found["value"].rstrip(".:!?)]}»”…\\*|")
    quoted = matched[found.start("value") - 1] in "\"'`"
    strong = _strong_password(value, quoted) if _PASSWORD.match(matched) else _random(value)
    if (
        not strong
        or _CODE.match(value)
        or _STANDS_IN.match(value)
        or (_DOTTED.match(value) and not _DIGITS.search(value))
    ):
        return None
    return found.start("value"), found.start("value") + len(value)


def _is_basic(text: str) -> bool:
    try:
        return all(map(_UUID.fullmatch, base64.b64decode(text).decode("ascii").split(":", 1)))
    except (binascii.Error, ValueError):
        return False


def _random(value: str) -> bool:
    """Digits and letters, or letters of two cases, change places as in no name; in hexadecimal half the time."""
    parts = [part for part in (re.sub(r"\W|_", "", value), *re.split(r"[\W_]+", value)) if len(part) >= 16]
    return _UUID.fullmatch(value) is not None or any(_changing(part) or _base32(part) for part in parts)


def _changing(part: str) -> bool:
    """One kind of character follows another often enough, in the first 16 characters or in more."""
    changes, digits, before, different = 0, False, None, set()
    for length, character in enumerate(part, 1):
        kind = "0" if character.isdecimal() else character.isupper()
        changes += before is not None and kind != before
        digits, before = digits or kind == "0", kind
        different.add(character)
        if length >= 16 and len(different) >= 8 and changes >= (0.25 if digits else 0.4) * length:
            return True
    return False


def _base32(part: str) -> bool:
    """Capitals, and digits here and there."""
    return len(part) >= 20 and part.isupper() and len(re.findall(r"\d+", part)) >= 3


def _made_of_words(marked: str) -> bool:
    """Behind an issuer's mark stand words and numbers, as in the name of a CSS class."""
    return all(
        re.fullmatch(r"[A-Z]?[a-z]*|\d*", part) or (len(part) < 8 and not re.search(r"\d", part))
        for part in re.split(r"[_\-.]", marked)
    )


def _strong_password(value: str, quoted: bool) -> bool:
    """Six characters or more of two kinds, no plain name unless quoted."""
    kinds = [bool(re.search(kind, value)) for kind in (r"[^\W\d_]", r"\d", r"[^\w\-.:/]|_")]
    plain = (_NAME.fullmatch(value) and not _WORDED.fullmatch(value)) or _ALGORITHM.match(value)
    return len(value) >= 6 and sum(kinds) >= 2 and (quoted or not plain)
