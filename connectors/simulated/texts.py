"""What the simulated provider tells. Written for this project; no model had a part in it at run time."""

import re

STORY = """\
The lock keeper of Alder Reach had one rule: no boat passes before its papers are read. Barges came at dawn, low in \
the water, loaded with salt, barley and letters nobody would ever answer. She read every page aloud, slowly, because \
the river liked to hear what it carried.

One evening a small grey boat arrived without a crew. Its papers were a single sheet, and the sheet was blank. The \
keeper held it to the lamp, then to the rain, then to her ear. At last she laughed, opened the upper gate and let the \
boat rise. "Empty," she wrote in her book, "and honest about it." In the morning the water below the lock ran a little \
clearer than before.
"""

STORY_RU = """\
У смотрительницы шлюза было одно правило: ни одна лодка не проходит, пока не прочитаны её бумаги. На рассвете шли \
баржи с солью, ячменём и письмами, на которые никто уже не ответит. Она читала каждую страницу вслух и не спеша, \
потому что река любит знать, что несёт.

Однажды вечером приплыла маленькая серая лодка без команды. Вместо бумаг на ней лежал один чистый лист. Смотрительница \
поднесла его к лампе, потом к дождю, потом к уху. Наконец она рассмеялась, открыла верхние ворота и подняла лодку. \
«Пустая, — записала она в книгу, — и не скрывает этого». Утром вода под шлюзом стала чуть прозрачнее, чем была.
"""

THOUGHTS = "The question is short. A lock, a keeper, a boat: a small story will do. "

REFUSAL = "I am a simulated provider, and this is how I say no."

_WORDS = re.compile(r"\S+\s*|\s+")


def cut(text: str) -> list[str]:
    """Word-like pieces, as a tokenizer's might look; joined they are the text."""
    return _WORDS.findall(text)
