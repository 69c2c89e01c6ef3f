"""Numbers written in figures -> Portuguese words, as one would read them aloud.

The words of a number below a million come from num2words; the rest is the grammar around them:
grouping, gender, ordinals, money, time, units, codes that are read figure by figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from ptlab.errors import TextError

__all__ = ["Variety", "cardinal", "decimal", "digits", "ordinal", "spell_numbers"]

Variety = Literal["br", "pt"]

LIMIT = 10**15  # numbers from here on are read figure by figure
CODE_LENGTH = 8  # so are figures without dots of this length or more: 98765432 is no quantity
_LANG = {"br": "pt_BR", "pt": "pt"}
_SCALES = {
    "br": ((10**12, "trilhão"), (10**9, "bilhão"), (10**6, "milhão")),
    "pt": ((10**12, "bilião"), (10**6, "milhão")),
}
_BIG = "milhão|milhões|bilhão|bilhões|trilhão|trilhões|bilião|biliões"
# num2words has 400, 700 and 800 without the n that dictionaries give them.
_ORDINAL_FIXES = (
    ("quadrigentésimo", "quadringentésimo"),
    ("septigentésimo", "septingentésimo"),
    ("octigentésimo", "octingentésimo"),
)
_MONTHS = (
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"
).split()
# symbol -> (one, many, cent, cents, gender)
_MONEY = {
    "R$": ("real", "reais", "centavo", "centavos", "m"),
    "US$": ("dólar", "dólares", "centavo", "centavos", "m"),
    "$": ("dólar", "dólares", "centavo", "centavos", "m"),
    "€": ("euro", "euros", "centavo", "centavos", "m"),
    "£": ("libra", "libras", "pêni", "pence", "f"),
}
_UNITS = {
    "km/h": ("quilômetro por hora", "quilômetros por hora"),
    "m/s": ("metro por segundo", "metros por segundo"),
    "km²": ("quilômetro quadrado", "quilômetros quadrados"),
    "m²": ("metro quadrado", "metros quadrados"),
    "m³": ("metro cúbico", "metros cúbicos"),
    "km": ("quilômetro", "quilômetros"),
    "cm": ("centímetro", "centímetros"),
    "mm": ("milímetro", "milímetros"),
    "m": ("metro", "metros"),
    "kg": ("quilo", "quilos"),
    "mg": ("miligrama", "miligramas"),
    "g": ("grama", "gramas"),
    "ml": ("mililitro", "mililitros"),
    "mL": ("mililitro", "mililitros"),
    "min": ("minuto", "minutos"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("quilohertz", "quilohertz"),
    "GB": ("gigabyte", "gigabytes"),
    "MB": ("megabyte", "megabytes"),
}
# Nouns after which um, dois, duzentos become uma, duas, duzentas. Others stay masculine.
_FEMININE = frozenset(
    "hora horas pessoa pessoas vez vezes semana semanas mulher mulheres menina meninas moça moças "
    "criança crianças casa casas página páginas palavra palavras frase frases letra letras "
    "cidade cidades escola escolas família famílias empresa empresas vítima vítimas morte mortes "
    "vaga vagas aula aulas noite noites manhã manhãs tarde tardes década décadas parte partes "
    "questão questões perguntas pergunta respostas resposta mesas mesa cadeiras cadeira portas "
    "porta janelas janela laranjas laranja maçãs maçã bananas banana xícaras xícara colheres "
    "colher garrafas garrafa caixas caixa folhas folha ruas rua salas sala filhas filha irmãs irmã "
    "amigas amiga alunas aluna professoras professora gramas libras toneladas tonelada léguas "
    "légua peças peça notas nota moedas moeda árvores árvore flores flor línguas língua "
    "medalhas medalha partidas partida voltas volta unidades unidade mil".split()
) - {"mil", "gramas"}
_ORDINAL_NOUNS = (
    "lugar|andar|ano|dia|turno|tempo|semestre|trimestre|bimestre|período|capítulo|artigo|grau|"
    "colocado|século|batalhão|distrito|aniversário|congresso|de (?:" + "|".join(_MONTHS) + ")"
)
_SPACE = r"[ \u00a0\u202f\u2009]"  # a common space, or those that group figures
_INTEGER = r"\d{1,3}(?:[.\u00a0\u202f\u2009]\d{3})+(?!\d)|\d+"
_NUMBER = rf"(?:{_INTEGER})(?:,\d+)?"
_MINUS = r"(?:(?<![\w.,)])[-\u2212]" + _SPACE + r"?(?=[\d€£$RU]))?"


def cardinal(number: int, variety: Variety = "br", gender: Literal["m", "f"] = "m") -> str:
    """A whole number in words; thousands of millions by the variety's scale.

    Examples
    --------
    >>> cardinal(1998), cardinal(16, "pt"), cardinal(202, gender="f")
    ('mil novecentos e noventa e oito', 'dezasseis', 'duzentas e duas')
    >>> cardinal(1_500_000_000), cardinal(1_500_000_000, "pt")
    ('um bilhão e quinhentos milhões', 'mil e quinhentos milhões')
    """
    if number >= LIMIT:
        return digits(str(number))
    text = _cardinal(number, _checked(variety))
    return _feminine(text) if gender == "f" else text


def ordinal(number: int, gender: Literal["m", "f"] = "m", plural: bool = False) -> str:
    """An ordinal in words.

    Examples
    --------
    >>> ordinal(1), ordinal(22, "f"), ordinal(1, plural=True)
    ('primeiro', 'vigésima segunda', 'primeiros')
    """
    if not 0 < number < 10**6:
        return cardinal(number)
    from num2words import num2words

    text = num2words(number, lang="pt_BR", to="ordinal")
    for wrong, right in _ORDINAL_FIXES:
        text = text.replace(wrong, right)
    ending = {"m": "o", "f": "a"}[gender] + "s" * plural
    return " ".join(word[:-1] + ending for word in text.split())


def digits(figures: str) -> str:
    """Figures one by one.

    Examples
    --------
    >>> digits("007")
    'zero zero sete'
    """
    return " ".join(_cardinal(int(figure), "br") for figure in figures if figure.isdigit())


def decimal(text: str, variety: Variety = "br", gender: Literal["m", "f"] = "m") -> str:
    """A number as it is written in Portuguese: dots between thousands, a decimal comma.

    After the comma zeros are read one by one and up to three figures as a number.

    Examples
    --------
    >>> decimal("1.234,05"), decimal("3,1416")
    ('mil duzentos e trinta e quatro vírgula zero cinco', 'três vírgula um quatro um seis')
    """
    whole, _, part = text.partition(",")
    figures = re.sub(r"\D", "", whole)
    grouped = figures != whole
    if not grouped and (len(figures) >= CODE_LENGTH or (figures[0] == "0" and len(figures) > 1)):
        words = digits(figures)
    else:
        words = cardinal(int(figures), variety, gender)
    return f"{words} vírgula {_fraction(part, variety)}" if part else words


def spell_numbers(text: str, variety: Variety = "br") -> str:
    """Write the numbers of a text in Portuguese words and leave the rest as it is.

    Reads whole numbers and decimals (``1.234,56``), ordinals (``1º``, ``2.ª``, ``3a``), percent,
    money (``R$ 10,50``, ``R$ 2 milhões``, ``US$``, ``€``, ``£``), times of day (``14h30``,
    ``14:30``), dates with a year (``7/9/1822``), temperatures (``-5 °C``), common units after a
    number (``5 km``) and numbers inside words (``covid-19``). Figure by figure: what begins with
    zero (``007``), phone numbers, CPF, CEP, and eight figures or more without dots.

    Not attempted, because it takes understanding: the gender of a number by its noun, save a
    list of common feminine nouns right after it (*2 meninas* is *duas*, *2 girafas* stays
    *dois*); dates without a year and fractions (``3/4``), ranges (``10-20`` is read without
    *a*), scores, Roman numerals, and *meia* for six. *Catorze* stands for both spellings.

    Parameters
    ----------
    text : str
    variety : {"br", "pt"}
        Of Brazil (*dezesseis*, *bilhão*, *quilômetro*) or of Portugal (*dezasseis*, *mil
        milhões*, *quilómetro*).

    Returns
    -------
    str

    Raises
    ------
    TextError
        For another variety, or if ``text`` is no string.

    Examples
    --------
    >>> spell_numbers("O 1º custou R$ 10,50 às 14h30, 50% a menos.")
    'O primeiro custou dez reais e cinquenta centavos às catorze e trinta, cinquenta por cento a menos.'
    """
    _checked(variety)
    if not isinstance(text, str):
        raise TextError(f"Text of type {type(text).__name__}; give a str.")
    if not re.search(r"[\d¼½¾]", text):
        return text
    for pattern, rule in _RULES:
        text = pattern.sub(_as_words(rule, variety), text)
    return text


Rule = Callable[[re.Match, Variety], str]


def _as_words(rule: Rule, variety: Variety) -> Callable[[re.Match], str]:
    """The rule's words, with a space where they would touch a letter or another number."""

    def replaced(match: re.Match) -> str:
        words = rule(match, variety)
        before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
        return " " * before.isalnum() + words + " " * after.isalnum()

    return replaced


@lru_cache(maxsize=4096)
def _cardinal(number: int, variety: Variety) -> str:
    from num2words import num2words

    for scale, name in _SCALES[variety]:
        if number >= scale:
            head, rest = divmod(number, scale)
            name = name if head == 1 else name.replace("ão", "ões")
            joint = " e " if _takes_e(rest) else " "
            tail = joint + _cardinal(rest, variety) if rest else ""
            return f"{_cardinal(head, variety)} {name}{tail}"
    return num2words(number, lang=_LANG[variety]).replace(",", "")


def _takes_e(rest: int) -> bool:
    """Whether *e* stands before the rest: one group of three, below 100 or whole hundreds."""
    while rest and rest % 1000 == 0:
        rest //= 1000
    return rest < 1000 and (rest < 100 or rest % 100 == 0)


def _feminine(text: str) -> str:
    """The part below a million agrees with the noun; *milhão* is a noun itself."""
    head = re.match(rf".*\b(?:{_BIG})\b", text)
    cut = head.end() if head else 0
    tail = re.sub(r"\bum\b", "uma", text[cut:])
    tail = re.sub(r"\bdois\b", "duas", tail)
    return text[:cut] + re.sub(r"entos\b", "entas", tail)


def _fraction(part: str, variety: Variety) -> str:
    rest = part.lstrip("0")
    zeros = digits("0" * (len(part) - len(rest)))
    words = (digits(rest) if len(rest) > 3 else cardinal(int(rest), variety)) if rest else ""
    return f"{zeros} {words}".strip()


def _sign(match: re.Match) -> str:
    return "menos " if match["minus"] else ""


def _value(number: str) -> float:
    whole, _, part = number.partition(",")
    return float(re.sub(r"\D", "", whole) + "." + (part or "0"))


def _local(words: str, variety: Variety) -> str:
    """Brazilian spelling to that of Portugal."""
    return words.replace("ômetro", "ómetro") if variety == "pt" else words


def _money(match: re.Match, variety: Variety) -> str:
    symbol = (match["before"] or match["after"]).upper()
    one, many, cent, cents, gender = _MONEY[symbol]
    if variety == "pt" and symbol != "R$":
        cent, cents = cent.replace("centavo", "cêntimo"), cents.replace("centavo", "cêntimo")
    number, scale = match["number"], match["scale"]
    if scale:
        of = "" if scale == "mil" else "de "
        return f"{_sign(match)}{decimal(number, variety)} {scale} {of}{many}"
    whole, _, part = number.partition(",")
    amount = int(re.sub(r"\D", "", whole))
    if len(part) > 2:
        return f"{_sign(match)}{decimal(number, variety, gender)} {many}"
    small = int(part.ljust(2, "0"))
    words = cardinal(amount, variety, gender)
    of = "de " if re.search(rf"(?:{_BIG})$", words) else ""
    pieces = [f"{words} {one if amount == 1 else of + many}"] if amount or not small else []
    if small:
        pieces.append(f"{cardinal(small, variety)} {cent if small == 1 else cents}")
    return _sign(match) + " e ".join(pieces)


def _clock(match: re.Match, variety: Variety) -> str:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    words = cardinal(hour, variety, "f")
    if not minute:
        return f"{words} {'hora' if hour < 2 else 'horas'}"
    return f"{words} e {cardinal(minute, variety)}" + (" minutos" if match["min"] else "")


def _date(match: re.Match, variety: Variety) -> str:
    day, month, year = (int(match[name]) for name in ("day", "month", "year"))
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return match[0]
    first = "primeiro" if day == 1 and variety == "br" else cardinal(day, variety)
    return f"{first} de {_MONTHS[month - 1]} de {cardinal(year, variety)}"


def _code(match: re.Match, variety: Variety) -> str:
    return " ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _ordinal(match: re.Match, variety: Variety) -> str:
    mark = match["mark"].lower()
    gender = "f" if mark[0] in "ªa" else "m"
    return ordinal(int(re.sub(r"\D", "", match["number"])), gender, mark.endswith("s"))


def _degrees(match: re.Match, variety: Variety) -> str:
    scale = {"C": " Celsius", "F": " Fahrenheit"}.get((match["scale"] or "").upper(), "")
    many = "grau" if _value(match["number"]) < 2 and _value(match["number"]) else "graus"
    return f"{_sign(match)}{decimal(match['number'], variety)} {many}{scale}"


def _unit(match: re.Match, variety: Variety) -> str:
    one, many = _UNITS[match["unit"]]
    name = _local(one if _value(match["number"]) < 2 else many, variety)
    return f"{_sign(match)}{decimal(match['number'], variety)} {name}"


def _percent(match: re.Match, variety: Variety) -> str:
    per = " por mil" if match["per"] == "‰" else " por cento"
    return _sign(match) + decimal(match["number"], variety) + per


def _points(match: re.Match, variety: Variety) -> str:
    """Versions and decimal points: 3.5 is *três ponto cinco*."""
    return " ponto ".join(decimal(part, variety) for part in match[0].split("."))


def _plain(match: re.Match, variety: Variety) -> str:
    noun = (match["noun"] or "").lower()
    gender = "f" if noun in _FEMININE and "," not in match["number"] else "m"
    return _sign(match) + decimal(match["number"], variety, gender)


def _half(match: re.Match, variety: Variety) -> str:
    words = {"½": "meio", "¼": "um quarto", "¾": "três quartos"}[match["half"]]
    return f"{decimal(match['number'], variety)} e {words}" if match["number"] else words


def _compile(*rules: tuple[str, Rule]) -> tuple[tuple[re.Pattern, Rule], ...]:
    return tuple((re.compile(pattern), rule) for pattern, rule in rules)


_SIGNED = rf"(?P<minus>{_MINUS})(?P<number>{_NUMBER})"
_SYMBOLS = r"(?i:R\$|US\$)|\$|€|£"
_SCALE = rf"(?:{_SPACE}(?P<scale>(?i:mil|{_BIG}))\b)?"
_UNIT_NAMES = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_RULES = _compile(  # in this order: the first that fits takes the figures
    (r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", _code),  # CPF
    (r"\b\d{5}-\d{3,4}\b", _code),  # CEP and mobile phones
    (r"\b(?!(?:1\d|20)\d\d-)\d{4}-\d{4}\b", _code),  # phones; 1998-2002 are years
    (r"\b(?P<day>\d{1,2})(?P<s>[/.-])(?P<month>\d{1,2})(?P=s)(?P<year>\d{4})\b", _date),
    (r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b", _date),
    (
        r"\b(?P<hour>[01]?\d|2[0-4]) ?[hH](?:oras?\b|(?P<minute>[0-5]\d)(?P<min> ?min)?\b|\b)",
        _clock,
    ),
    (r"(?<![\d:.,])(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?P<min>)(?![\d:])", _clock),
    (
        rf"(?P<minus>{_MINUS})(?:(?P<before>{_SYMBOLS}){_SPACE}?[-\u2212]?(?P<number>{_NUMBER})"
        rf"{_SCALE})(?P<after>)",
        _money,
    ),
    (rf"{_SIGNED}{_SCALE}{_SPACE}?(?P<after>€|£)(?P<before>)", _money),
    (rf"{_SIGNED}{_SPACE}?(?P<per>[%‰])", _percent),
    (rf"{_SIGNED}{_SPACE}?[°º]{_SPACE}?(?P<scale>[CF])\b", _degrees),
    (rf"(?<![\d.,])(?P<number>{_INTEGER})(?P<mark>°)(?=\s+(?:{_ORDINAL_NOUNS})\b)", _ordinal),
    (rf"{_SIGNED}{_SPACE}?°(?P<scale>)", _degrees),
    (rf"(?<![\d.,])(?P<number>{_INTEGER})\.?(?P<mark>[ºª]s?|(?:os?|as?)\b)", _ordinal),
    (rf"(?:(?P<number>\d+){_SPACE}?)?(?P<half>[½¼¾])", _half),
    (rf"{_SIGNED}{_SPACE}?(?P<unit>{_UNIT_NAMES})(?![\w/²³])", _unit),
    (rf"(?<![\d,])(?!(?:{_INTEGER})(?![.\d]))\d+(?:\.\d+)+(?!,?\d)", _points),
    (rf"{_SIGNED}(?=(?:{_SPACE}mil)?{_SPACE}(?P<noun>[^\W\d_]+))?", _plain),
)


def _checked(variety: str) -> Variety:
    if variety not in _LANG:
        raise TextError(f"variety={variety!r}; accepted are 'br' (Brazil) and 'pt' (Portugal).")
    return variety
