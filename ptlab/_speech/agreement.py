"""The gender of a number before a noun: *duas horas* and *duzentas pessoas*, but *dois dias*."""

from __future__ import annotations

import re

__all__ = ["counts_feminine", "feminine"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FEMININE_BEFORE = re.compile(
    r"\b(?:às|(?:d|n|pel)?as|[dn]?(?:essas|estas|aquelas)|[st]uas|minhas|[nv]ossas|outras"
    r"|últimas|primeiras|próximas)\s$"
)
_MASCULINE_BEFORE = re.compile(
    r"\b(?:(?:d|n|a|pel)?os|[dn]?(?:esses|estes|aqueles)|[st]eus|meus|[nv]ossos|outros"
    r"|últimos|primeiros|próximos)\s$"
)
_AFTER = re.compile(r"\s+(?:(?:mil|grandes)\s+)?([^\W\d_]+)")
_FEMININE_ENDING = re.compile(r"as$|[çs]ões$|dades$|gens$")
_MASCULINE_ENDING = re.compile(r"(?:[gd]ram|oram|em|om|igm|ogm|asm|aum|clim|ist|crat)as$")
_FEMININE = _words(
    "vezes mulheres noites tardes partes mães irmãs manhãs maçãs mãos flores cores luzes vozes "
    "fases frases bases classes chaves fontes leis árvores redes sedes equipes crises doses "
    "greves pontes nuvens ordens dores torres teses hipóteses análises lentes sementes raízes "
    "colheres gemas algemas gomas redomas listas pistas vistas revistas entrevistas conquistas"
)
_MASCULINE = _words(
    "dias mapas planetas cometas poetas profetas atletas colegas guardas guias papas caras "
    "pijamas patriarcas monarcas diplomatas psicopatas homicidas camaradas belgas corações "
    "persas incas maias celtas astecas dálmatas mas apenas nas das"
)
_FEMININE_ONE = _words(
    "hora semana pessoa vez criança mulher casa página palavra noite manhã tarde parte mesa "
    "sala porta folha xícara chávena colher garrafa caixa dúzia dezena centena tonelada libra "
    "polegada década letra linha música pergunta resposta foto moto cerveja loja empresa escola "
    "menina filha irmã amiga volta gota dose fase frase família coisa ideia data nota aula "
    "prova tarefa etapa equipe equipa peça fatia laranja maçã cama chave rua"
)
_FEMININE_ONE_ENDING = re.compile(r"(?<!cora)ção$|dade$|(?<!person)agem$")
_LARGE = re.compile(r"^.*(?:lhão|lhões|lião|liões)\b")  # milhão and above are masculine themselves


def counts_feminine(before: str, after: str, one: bool) -> bool:
    """Whether a number counts something feminine, as far as its neighbours tell.

    Parameters
    ----------
    before, after : str
        The text up to the number and from its end.
    one : bool
        Whether the number is 1: *a* ends too many verbs, so that only well-known nouns count.

    Examples
    --------
    >>> [counts_feminine("", after, False) for after in (" horas", " mil vagas", " dias", " reais")]
    [True, True, False, False]
    >>> counts_feminine("das ", " às quatro", False), counts_feminine("os ", " atletas", False)
    (True, False)
    """
    before = before.lower()
    if _FEMININE_BEFORE.search(before):
        return True
    following = _AFTER.match(after.lower())
    if following is None or _MASCULINE_BEFORE.search(before):
        return False
    noun = following[1]
    if one:
        return noun in _FEMININE_ONE or bool(_FEMININE_ONE_ENDING.search(noun))
    if noun in _FEMININE or noun in _MASCULINE:
        return noun in _FEMININE
    return bool(_FEMININE_ENDING.search(noun)) and not _MASCULINE_ENDING.search(noun)


def feminine(spelled: str) -> str:
    """A spelled number before a feminine noun.

    Examples
    --------
    >>> feminine("dois milhões duzentos e um mil e dois")
    'dois milhões duzentas e uma mil e duas'
    """
    large = _LARGE.match(spelled)
    head = large[0] if large else ""
    tail = re.sub(r"entos\b", "entas", spelled[len(head) :])
    tail = re.sub(r"\bdois\b", "duas", re.sub(r"\bum\b", "uma", tail))
    return head + tail
