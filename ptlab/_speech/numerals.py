"""Numbers to Portuguese words, by num2words; `ptlab.text` has `spell_numbers` too."""

from __future__ import annotations

import re

from ptlab._speech.agreement import counts_feminine, feminine
from ptlab.errors import TextError

__all__ = ["spell_numbers"]

LANGUAGES = {"br": "pt_BR", "pt": "pt"}  # as num2words calls them
MOST_DIGITS = 15  # a longer number is read digit by digit
_UNITS = {  # one, several
    "%": ("por cento", "por cento"),
    "°c": ("grau celsius", "graus celsius"),
    "°": ("grau", "graus"),
    "km/h": ("quilômetro por hora", "quilômetros por hora"),
    "kg": ("quilo", "quilos"),
    "km": ("quilômetro", "quilômetros"),
    "cm": ("centímetro", "centímetros"),
    "mm": ("milímetro", "milímetros"),
    "m": ("metro", "metros"),
    "g": ("grama", "gramas"),
}
_CURRENCY = {
    "r$": (("real", "reais"), ("centavo", "centavos")),
    "us$": (("dólar", "dólares"), ("centavo", "centavos")),
    "€": (("euro", "euros"), ("cêntimo", "cêntimos")),
    "$": (("dólar", "dólares"), ("centavo", "centavos")),
}
_NUMBER = r"\d{1,3}(?:\.\d{3})+(?:,\d+)?(?!\d)|\d+(?:,\d+)?"
_SCALE = r"(?:\s(mil|milh(?:ão|ões)|[bt]ili?(?:ão|ões)|[bt]ilh(?:ão|ões))\b)?"
_MONEY = re.compile(rf"(r\$|us\$|€|\$)\s?({_NUMBER}){_SCALE}|({_NUMBER}){_SCALE}\s?(€)", re.I)
_CLOCK = re.compile(r"\b([01]?\d|2[0-3])(?:h([0-5]\d)?(?:min)?|:([0-5]\d))(?!\w)", re.I)
_ORDINAL = re.compile(r"(?<![\w,.])(?:(\d{1,4})\.?([ºª])|(1)°)(?!\s?c\b)", re.I)
_WITH_UNIT = re.compile(rf"({_NUMBER})\s?(%|[°º]\s?c|°|km/h|kg|km|cm|mm|m|g)(?![\w/])", re.I)
_SEAM = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")  # letter beside digit: A4, 3D
_PLAIN = re.compile(rf"(?<![\w.,])(-|−)?({_NUMBER})|({_NUMBER})")


def spell_numbers(text: str, variety: str = "br") -> str:
    """Spell the numbers of a text in Portuguese.

    Cardinals and decimals (*1.234,56*), ordinals (*1º, 2ª*), money (*R$ 10,50*), percentages and
    common units, clock times (*14h30*), negatives, and digit by digit what begins with a zero or
    is longer than 15 digits. *Duas* and *duzentas* stand after *as* and its like, and before nouns
    that are feminine by their ending or well known to be.
    Not attempted: Roman numerals, dates with slashes, telephone numbers without a leading zero.

    Parameters
    ----------
    text : str
    variety : {"br", "pt"}
        *dezesseis quilômetros* or *dezasseis quilómetros*.

    Raises
    ------
    TextError
        For another variety.

    Examples
    --------
    >>> spell_numbers("o 1º e a 2ª de 1.234,5")
    'o primeiro e a segunda de mil duzentos e trinta e quatro vírgula cinco'
    >>> spell_numbers("R$ 10,50"), spell_numbers("R$ 2,5 milhões")
    ('dez reais e cinquenta centavos', 'dois vírgula cinco milhões de reais')
    >>> spell_numbers("16 anos", variety="pt"), spell_numbers("50% de 007")
    ('dezasseis anos', 'cinquenta por cento de zero zero sete')
    >>> spell_numbers("2 dias e 2 horas, das 2 às 4"), spell_numbers("200 pessoas e 21 mil casas")
    ('dois dias e duas horas, das duas às quatro', 'duzentas pessoas e vinte e uma mil casas')
    """
    if variety not in LANGUAGES:
        raise TextError(f"Variety {variety!r}; choose 'br' or 'pt'.")
    language = LANGUAGES[variety]
    if not any(c.isdigit() for c in text):
        return text
    text = _MONEY.sub(lambda m: _money(m, language), text)
    text = _CLOCK.sub(lambda m: _clock(m, language), text)
    text = _ORDINAL.sub(lambda m: _ordinal(int(m[1] or m[3]), m[2], language), text)
    text = _WITH_UNIT.sub(lambda m: _with_unit(m, language), text)
    text = _SEAM.sub(" ", text)
    return _PLAIN.sub(lambda m: _plain(m, language), text)


def _plain(match: re.Match[str], language: str) -> str:
    number = match[2] or match[3]
    spelled = _cardinal(number, language)
    start, end = match.span()
    before, after = match.string[max(0, start - 20) : start], match.string[end : end + 60]
    if counts_feminine(before, after, number == "1"):
        whole, *decimals = spelled.partition(" vírgula ")
        spelled = feminine(whole) + "".join(decimals)
    return f"menos {spelled}" if match[1] else spelled


def _cardinal(digits: str, language: str) -> str:
    whole, _, decimals = digits.replace(".", "").partition(",")
    spelled = _integer(whole, language)
    if not decimals:
        return spelled
    zeros = "zero " * (len(decimals) - len(decimals.lstrip("0")))
    rest = _integer(decimals.lstrip("0"), language) if decimals.strip("0") else ""
    return f"{spelled} vírgula {zeros}{rest}".strip()


def _integer(digits: str, language: str) -> str:
    from num2words import num2words

    if len(digits) > MOST_DIGITS or (len(digits) > 1 and digits.startswith("0")):
        return " ".join(num2words(int(d), lang=language) for d in digits)
    return num2words(int(digits), lang=language).replace(",", "")


def _ordinal(number: int, sign: str | None, language: str) -> str:
    from num2words import num2words

    if number == 0:
        return "zero"
    spelled = num2words(number, to="ordinal", lang=language)
    if sign != "ª":
        return spelled
    return " ".join(re.sub("o$", "a", word) for word in spelled.split())


def _with_unit(match: re.Match[str], language: str) -> str:
    sign = match[2].lower().replace(" ", "").replace("º", "°")
    unit = _UNITS[sign][match[1] != "1"]
    if language == "pt":
        unit = unit.replace("quilôm", "quilóm")
    return f"{match[1]} {unit}"


def _money(match: re.Match[str], language: str) -> str:
    sign, amount, scale = match.group(1, 2, 3) if match[1] else match.group(6, 4, 5)
    names, cents = _CURRENCY[sign.lower()]
    if scale:
        of = " " if scale.lower() == "mil" else " de "
        return f"{_cardinal(amount, language)} {scale}{of}{names[1]}"
    whole, _, decimals = amount.replace(".", "").partition(",")
    millions = len(whole) <= MOST_DIGITS and int(whole) and int(whole) % 1_000_000 == 0
    name = f"de {names[1]}" if millions else names[int(whole) != 1]
    spelled = f"{_cardinal(whole, language)} {name}"
    small = int((decimals + "0")[:2]) if decimals else 0
    if not small:
        return spelled
    return f"{spelled} e {_integer(str(small), language)} {cents[small != 1]}"


def _clock(match: re.Match[str], language: str) -> str:
    hours, minutes = int(match[1]), int(match[2] or match[3] or 0)
    spelled = feminine(_integer(str(hours), language))
    spelled += " hora" if hours == 1 else " horas"
    if not minutes:
        return spelled
    unit = "minuto" if minutes == 1 else "minutos"
    return f"{spelled} e {_integer(str(minutes), language)} {unit}"
