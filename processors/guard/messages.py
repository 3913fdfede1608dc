"""What a reader is told of a stop or refusal, in the language of the request."""

from typing import Final, Literal, get_args

Language = Literal["en", "ru"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

_MESSAGES: dict[str, dict[Language, str]] = {
    "refused": {
        "en": "The request was refused by rule {rule}.",
        "ru": "Запрос отклонён правилом {rule}.",
    },
    "content_filter": {
        "en": "The answer was stopped by rule {rule}.",
        "ru": "Ответ остановлен правилом {rule}.",
    },
    "degeneration": {
        "en": "The answer was stopped because it repeated itself.",
        "ru": "Ответ остановлен: он повторялся.",
    },
    "token_limit": {
        "en": "Token limit reached.",
        "ru": "Достигнут предел числа токенов.",
    },
    "cost_limit": {
        "en": "Cost limit reached.",
        "ru": "Достигнут предел стоимости.",
    },
    "time_limit": {
        "en": "Time limit reached.",
        "ru": "Достигнут предел времени ответа.",
    },
    "budget_exhausted": {
        "en": "The budget is exhausted ({rule}).",
        "ru": "Бюджет исчерпан ({rule}).",
    },
    "budget_unavailable": {
        "en": "The budget cannot be checked now ({rule}).",
        "ru": "Бюджет сейчас нельзя проверить ({rule}).",
    },
}


def message(reason: str, rule: str, language: Language) -> str:
    """The sentence for a reason, naming the rule where one is at work."""
    return _MESSAGES[reason][language].format(rule=rule)


def language_of(cyrillic: int, other: int) -> Language:
    """The language of so many Cyrillic and other characters, and in which to speak to whoever wrote them: signs and
    code count as other."""
    return "ru" if cyrillic * 2 > other else "en"
