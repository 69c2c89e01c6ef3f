"""Which of Kokoro's 54 voices belongs to which split: no voice is in two."""

from __future__ import annotations

TEST = (
    "pm_alex", "af_bella", "am_michael", "bf_emma", "bm_george",
    "em_alex", "if_sara", "hf_alpha", "jm_kumo", "zf_xiaoyi",
)  # fmt: skip
DEV = ("pm_santa", "am_adam", "af_sky", "bm_lewis", "ef_dora", "zm_yunxi")
# Kokoro's names: language letter, sex letter, name. Only the Brazilian voices are native.
LANGUAGES = {
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr", "h": "hi",
    "i": "it", "j": "ja", "p": "pt-br", "z": "zh",
}  # fmt: skip


def training_voices(voices: tuple[str, ...]) -> tuple[str, ...]:
    """All voices but those kept for dev and test.

    Examples
    --------
    >>> training_voices(("pf_dora", "pm_alex", "pm_santa"))
    ('pf_dora',)
    """
    return tuple(voice for voice in voices if voice not in TEST + DEV)


def describe(voice: str) -> dict[str, str]:
    """Columns of the metadata that the name of a voice tells.

    Examples
    --------
    >>> describe("if_sara")
    {'speaker': 'if_sara', 'accent': 'foreign', 'sex': 'f', 'voice_language': 'it'}
    """
    language = LANGUAGES[voice[0]]
    accent = "native" if language == "pt-br" else "foreign"
    return {"speaker": voice, "accent": accent, "sex": voice[1], "voice_language": language}
