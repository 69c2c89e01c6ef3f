"""Portuguese text: the traps of Unicode, and numbers as a Brazilian and a Portuguese say them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptlab.errors import TextError
from ptlab.text import (
    VOCABULARY,
    audit_text,
    encode,
    normalize_text,
    spell_numbers,
    writable_text,
)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("Fazê-lo-ei, disse-lhe.", "fazê-lo-ei disse-lhe"),
        ("um copo d’água", "um copo d'água"),
        ("d‘água d`água d´água", "d'água d'água d'água"),
        ("— Vamos? – perguntou", "vamos perguntou"),
        ("guarda\u2010chuva guarda\u2011chuva", "guarda-chuva guarda-chuva"),
        ("co\u00adração", "coração"),
        ("a\u00a0casa\u200b nova", "a casa nova"),
        ("'Olá' -disse- ele--", "olá disse ele"),
        ("ﬁm da ﬂor", "fim da flor"),
        ("AVÔ e AVÓ", "avô e avó"),
        ("Müller, lingüiça", "müller lingüiça"),
        ("você ñ sabe", "você sabe"),
    ],
)
def test_policy(given_, expected):
    assert normalize_text(given_) == expected


def test_decomposed_accents_are_composed_before_anything_else():
    text = "não é avó, é avô: pão, açúcar"
    decomposed = unicodedata.normalize("NFD", text)
    assert normalize_text(decomposed) == normalize_text(text) == "não é avó é avô pão açúcar"
    assert not audit_text([decomposed]).ok  # the trap that the normalisation mends


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("21", "vinte e um"),
        ("100", "cem"),
        ("101", "cento e um"),
        ("1998", "mil novecentos e noventa e oito"),
        ("2026", "dois mil e vinte e seis"),
        ("1.234,56", "mil duzentos e trinta e quatro vírgula cinquenta e seis"),
        ("3,05", "três vírgula zero cinco"),
        ("1º", "primeiro"),
        ("2ª", "segunda"),
        ("21ª", "vigésima primeira"),
        ("R$ 10,50", "dez reais e cinquenta centavos"),
        ("R$ 1,01", "um real e um centavo"),
        ("5 €", "cinco euros"),
        ("50%", "cinquenta por cento"),
        ("-5 °C", "menos cinco graus celsius"),
        ("14h30", "catorze horas e trinta minutos"),
        ("2h", "duas horas"),
        ("1:15", "uma hora e quinze minutos"),
        ("007", "zero zero sete"),
        ("80 km/h", "oitenta quilômetros por hora"),
        ("1 km", "um quilômetro"),
        ("1°C", "um grau celsius"),
        ("30° e 1°", "trinta graus e primeiro"),
        ("R$ 25.000.000", "vinte e cinco milhões de reais"),
        ("R$ 2,5 milhões", "dois vírgula cinco milhões de reais"),
        ("R$ 10 mil", "dez mil reais"),
        ("3 bilhões €", "três bilhões de euros"),
        ("US$ 2", "dois dólares"),
        ("1.000.000", "um milhão"),
        ("10.5", "dez cinco"),  # not a Portuguese decimal, but nothing is lost
        ("1,2,3", "um vírgula dois três"),
        ("24h", "vinte e quatro h"),
        ("A4 e 3D", "a quatro e três d"),
        ("covid-19", "covid-dezenove"),
        ("10-20", "dez-vinte"),
        ("25/12/2026", "vinte e cinco doze dois mil e vinte e seis"),
        ("0,50", "zero vírgula cinquenta"),
        ("1" * 16, " ".join(["um"] * 16)),
        ("³٣", "três"),  # other digits than ours are numbers, superscripts are not
    ],
)
def test_numbers(digits, words):
    assert normalize_text(f"são {digits}.") == f"são {words}"


@pytest.mark.parametrize(
    "written, said",
    [
        ("1 hora e 1 dia", "uma hora e um dia"),
        ("1 estação, 1 coração", "uma estação um coração"),
        ("1 para 2", "um para dois"),
        ("o capítulo 2 trata", "o capítulo dois trata"),
        ("2 cartas em 2 mapas", "duas cartas em dois mapas"),
        ("22 mil crianças", "vinte e duas mil crianças"),
        ("1.201 casas", "mil duzentas e uma casas"),
        ("2 milhões de pessoas", "dois milhões de pessoas"),
        ("2.000.002 vagas", "dois milhões e duas vagas"),
        ("2,5 horas", "duas vírgula cinco horas"),
        ("2 grandes cidades", "duas grandes cidades"),
        ("2 canções, 2 corações", "duas canções dois corações"),
        ("200 jornalistas e 200 revistas", "duzentos jornalistas e duzentas revistas"),
        ("2 problemas, 2 algemas", "dois problemas duas algemas"),
        ("os 2 atletas e as 2", "os dois atletas e as duas"),
        ("das 2 às 4, nos 2 lados", "das duas às quatro nos dois lados"),
        ("nossas 500 lojas", "nossas quinhentas lojas"),
        ("2 reais mas 2 apenas", "dois reais mas dois apenas"),
        ("-2 voltas", "menos duas voltas"),
        ("100 vezes", "cem vezes"),
        ("US$ 200 por 2 noites", "duzentos dólares por duas noites"),
    ],
)
def test_numbers_agree_with_what_they_count(written, said):
    assert normalize_text(written) == said


def test_two_varieties_spell_sixteen_their_way():
    assert spell_numbers("16") == "dezesseis"
    assert spell_numbers("16", variety="pt") == "dezasseis"
    assert spell_numbers("17 km", variety="pt") == "dezassete quilómetros"
    with pytest.raises(TextError, match="choose 'br' or 'pt'"):
        spell_numbers("16", variety="ao")


@given(st.text(alphabet="0123456789.,-:/hkmgº ª°%€R$ab", max_size=20))
def test_no_digit_is_left_and_none_is_lost_without_a_word(text):
    spelled = spell_numbers(text)
    assert not any(c in "0123456789" for c in spelled)
    assert (len(spelled) > len(text)) == any(c in "0123456789" for c in text)


@given(st.integers(0, 10**9))
def test_cardinals_are_those_of_num2words(number):
    from num2words import num2words

    expected = num2words(number, lang="pt_BR").replace(",", "")
    assert spell_numbers(str(number)) == expected
    assert spell_numbers(f"{number:,}".replace(",", ".")) == expected


@given(st.text(max_size=60))
def test_any_text_ends_in_the_vocabulary_and_stays_there(text):
    once = normalize_text(text)
    assert audit_text([once]).ok
    assert normalize_text(once) == once
    assert once == " ".join(once.split())


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzàáâãçéêíóôõúü ", max_size=40))
def test_letters_of_the_vocabulary_are_never_changed(text):
    assert normalize_text(text) == " ".join(text.split())


def test_audit_counts_and_names_what_would_be_lost():
    audit = audit_text(["Olá", "2 pães", "bom dia"])
    assert audit.unknown == (("O", 1), ("2", 1))
    assert (audit.texts, audit.affected, audit.examples) == (3, 2, ("Olá", "2 pães"))
    with pytest.raises(TextError, match=r"pass \[text\]"):
        audit_text("Olá")


def test_encode_uses_the_ids_of_the_real_vocabulary():
    assert len(VOCABULARY) == 46
    assert encode("a ü-Z").tolist() == [7, 4, 45, 6, 3]  # a capital is <unk>: id 3
    with pytest.raises(TextError, match="no <unk>"):
        encode("z", ("<pad>", "|", "a"))


def test_a_vocabulary_of_capitals_gets_capitals():
    capitals = ("<pad>", "<unk>", "|", "'", *"ABCDEÃÇO")
    assert normalize_text("cão, dê", capitals) == "CÃO D"
    assert encode("CÃO", capitals).tolist() == [6, 9, 11]


def test_nothing_that_is_spoken_gets_lost_silently():
    assert writable_text("— Água, d’ouro: 1ª ﬁla!") == "água d'ouro primeira fila"
    for text in ("señor", "жук", "Łódź"):
        with pytest.raises(TextError, match=r"cannot write .*; spell it as it sounds"):
            writable_text(text)
    with pytest.raises(TextError, match="has no letters"):
        writable_text(" ?! ")
    with pytest.raises(TextError, match="cannot write 'Ê'"):
        writable_text("dê", ("<pad>", "|", "D"))


def test_a_space_can_be_the_delimiter():
    assert encode("a b", ("<pad>", " ", "a", "b")).tolist() == [2, 1, 3]


def test_wrong_type_is_refused():
    with pytest.raises(TextError, match="expected str"):
        normalize_text(b"oi")
