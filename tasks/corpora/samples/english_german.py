"""The embedded sample of translation: English sentences from a seeded grammar, in simplified
German.

What is simplified is the language and not its grammar: few words, regular ones, and no
"beim" for "bei dem". Little of what the German sentence needs stands in the English
word that it goes with:

* Number and gender. "the women near the old tower slept" and "the woman near the old
  tower slept" differ far from the verb, which is "schliefen" or "schlief". "it" is "er",
  "sie" or "es" by what it stands for, a clause away.
* Case. "the king gave the queen the key" has the same "the" three times; "der König gab
  der Königin den Schlüssel".
* Order. The verb is second in a main clause and last in one that depends on it, and an
  infinitive goes to the end: "the king will see the tower" is "der König wird den Turm
  sehen", or "weil der König den Turm sehen wird".

So a dictionary falls short, whatever it holds, and so does whoever forgets the
subject before the verb comes. Each sentence has one translation.
"""

import dataclasses
import functools
import random
import re
from collections.abc import Iterator

from tasks.core.examples import Example, Stream, position

SEED = 2014
SIZES = {"train": 3000, "valid": 300, "test": 300}
_SHARES = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}  # of all texts

# Gender (masculine, feminine, neuter); one and many, in English and in German.
PERSONS = """
    m man men Mann Männer
    m painter painters Maler Maler
    m teacher teachers Lehrer Lehrer
    m king kings König Könige
    m hunter hunters Jäger Jäger
    f woman women Frau Frauen
    f queen queens Königin Königinnen
    f sister sisters Schwester Schwestern
    f daughter daughters Tochter Töchter
    n child children Kind Kinder
    n girl girls Mädchen Mädchen
"""
THINGS = """
    m tower towers Turm Türme
    m table tables Tisch Tische
    m key keys Schlüssel Schlüssel
    m garden gardens Garten Gärten
    m ring rings Ring Ringe
    f bridge bridges Brücke Brücken
    f lamp lamps Lampe Lampen
    f door doors Tür Türen
    f clock clocks Uhr Uhren
    f bag bags Tasche Taschen
    n house houses Haus Häuser
    n boat boats Boot Boote
    n picture pictures Bild Bilder
    n book books Buch Bücher
    n window windows Fenster Fenster
"""
# Past, present of one, infinitive; in English and in German.
SEE = """
    saw sees see sah sieht sehen
    found finds find fand findet finden
    painted paints paint malte malt malen
    sought seeks seek suchte sucht suchen
    loved loves love liebte liebt lieben
    forgot forgets forget vergaß vergisst vergessen
"""
BUY = """
    bought buys buy kaufte kauft kaufen
    sold sells sell verkaufte verkauft verkaufen
    cleaned cleans clean putzte putzt putzen
    fetched fetches fetch holte holt holen
"""
GIVE = """
    gave gives give gab gibt geben
    showed shows show zeigte zeigt zeigen
    sent sends send schickte schickt schicken
"""
SLEEP = """
    slept sleeps sleep schlief schläft schlafen
    laughed laughs laugh lachte lacht lachen
    waited waits wait wartete wartet warten
    danced dances dance tanzte tanzt tanzen
    sang sings sing sang singt singen
"""
SAY = """
    said says say sagte sagt sagen
    knew knows know wusste weiß wissen
    believed believes believe glaubte glaubt glauben
    hoped hopes hope hoffte hofft hoffen
"""
ADJECTIVES = """
    old alt
    small klein
    big groß
    strange seltsam
    beautiful schön
"""
OF_PERSONS = """
    young jung
    proud stolz
"""
OF_THINGS = """
    new neu
    green grün
    red rot
"""
NUMBERS = """
    two zwei
    three drei
    seven sieben
"""
# Where something is; in German all of these go with the dative.
NEAR = """
    near bei
    behind hinter
    in_front_of vor
    beside neben
"""
BECAUSE = """
    because weil
    although obwohl
    while während
"""
WHEN = {
    "past": "yesterday gestern\nthen dann",
    "present": "today heute\nhere hier",
    "future": "tomorrow morgen\nsoon bald",
}
# What takes the form of a noun: in each case masculine, feminine, neuter, plural. Of
# adjectives the endings, which are weak after "the" and mixed after "a" and numbers.
CASES = ("nominative", "accusative", "dative")
FORMS = "mfnp"
DECLENSIONS = """
    the    der die das die              den die das die              dem der dem den
    this   dieser diese dieses diese    diesen diese dieses diese    diesem dieser diesem diesen
    every  jeder jede jedes -           jeden jede jedes -           jedem jeder jedem -
    a      ein eine ein -               einen eine ein -             einem einer einem -
    it     er sie es sie                ihn sie es sie               - - - -
    weak   e e e en                     en e e en                    en en en en
    mixed  er e es e                    en e es e                    en en en en
"""


@dataclasses.dataclass(frozen=True)
class Nominal:
    """What can be a subject or an object: "the old tower", "den alten Turm".

    Attributes:
        form: One of `FORMS`.
        is_person: Whether it can act.
    """

    english: str
    german: str
    form: str
    is_person: bool = False


@dataclasses.dataclass(frozen=True)
class Verb:
    """The forms of a verb: past and present, each of one and of many, and the infinitive."""

    english: tuple[str, ...]
    german: tuple[str, ...]

    @classmethod
    def regular(cls, saw, sees, see, sah, sieht, sehen) -> "Verb":
        """A verb whose other forms follow from these."""
        sahen = sah + ("n" if sah.endswith("e") else "en")
        return cls((saw, saw, sees, see, see), (sah, sahen, sieht, sehen, sehen))


BE = Verb(("was", "were", "is", "are", "be"), ("war", "waren", "ist", "sind", "sein"))
DO = ("did", "did", "does", "do")


@dataclasses.dataclass(frozen=True)
class Clause:
    """A subject and what is said of it, as in "the king" and "will see the tower".

    Attributes:
        verb: The finite verb in German, "wird".
        rest: What else is said, "den Turm sehen".
    """

    subject: Nominal
    said: str
    verb: str
    rest: str

    @property
    def english(self) -> str:
        return f"{self.subject.english} {self.said}"

    def german(self, place: str = "second") -> str:
        """The clause, its finite verb in the first, the second or the last place."""
        subject, verb, rest = self.subject.german, self.verb, self.rest
        orders = {
            "first": (verb, subject, rest),
            "second": (subject, verb, rest),
            "last": (subject, rest, verb),
        }
        return " ".join(orders[place])


def parts() -> dict[str, Stream]:
    """The three parts, each drawn anew whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    speaker, met = Speaker(random.Random(f"{SEED} {part}")), set()
    low, high = _SHARES[part]
    while len(met) < SIZES[part]:
        text, translation = speaker.sentence()
        if low <= position(text) < high and text not in met:
            met.add(text)
            values = {"text": text, "translation": translation}
            yield Example(values, f"sample:{part}:{len(met)}")


class Speaker:
    """Says something in English, and in German.

    Args:
        source: What chance decides.
    """

    def __init__(self, source: random.Random):
        self._source = source
        self._declensions = {name: forms for name, *forms in _rows(DECLENSIONS)}

    def sentence(self) -> tuple[str, str]:
        """A sentence and its translation, blanks around each word and each mark."""
        kinds = {
            self._plain: 4,
            self._reported: 3,
            self._because: 2,
            self._because_first: 2,
            self._together: 2,
            self._but_it: 4,
        }
        (kind,) = self._source.choices([*kinds], [*kinds.values()])
        english, german = (" ".join(f"{told} .".split()) for told in kind())
        english = re.sub(r"\ba (?=[aeiou])", "an ", english)
        # A comma is not written before a stop or another comma.
        return english, re.sub(r"( ,)+(?= [,.])", "", german)

    # --- Kinds of sentences --------------------------------------------------

    def _plain(self):
        tense = self._tense()
        clause = self._clause(tense)
        if self._sometimes(0.7):
            return clause.english, clause.german()
        when, wann = self._one_of(WHEN[tense])
        return f"{when} {clause.english}", f"{wann} {clause.german('first')}"

    def _reported(self):
        said = self._does(self._noun(PERSONS), SAY, self._tense())
        clause = self._clause(self._tense())
        english = f"{said.english} that {clause.english}"
        return english, f"{said.german()} , dass {clause.german('last')}"

    def _because(self):
        one, other, (because, weil) = *self._two_clauses(), self._one_of(BECAUSE)
        english = f"{one.english} {because} {other.english}"
        return english, f"{one.german()} , {weil} {other.german('last')}"

    def _because_first(self):
        one, other, (because, weil) = *self._two_clauses(), self._one_of(BECAUSE)
        english = f"{because} {one.english} , {other.english}"
        return english, f"{weil} {one.german('last')} , {other.german('first')}"

    def _together(self):
        tense, subject = self._tense(), self._noun(PERSONS)
        one, other = (self._acts(subject, tense) for _ in range(2))
        english = f"{one.english} and {other.said}"
        return english, f"{one.german()} und {other.verb} {other.rest}"

    def _but_it(self):
        tense, thing = self._tense(), self._noun(THINGS)
        one = self._is(thing, tense)
        many, subject = thing.form == "p", self._sometimes(0.5)
        word = ("they" if subject else "them") if many else "it"
        case = "nominative" if subject else "accusative"
        it = Nominal(word, self._declined("it", case, thing.form), thing.form)
        if subject:
            other = self._is(it, tense)
        else:
            other = self._does(self._noun(PERSONS), self._source.choice((SEE, BUY)), tense, it)
        return f"{one.english} , but {other.english}", f"{one.german()} , aber {other.german()}"

    # --- Clauses -------------------------------------------------------------

    def _tense(self) -> str:
        return self._source.choices(("past", "present", "future"), (4, 3, 3))[0]

    def _two_clauses(self) -> tuple[Clause, Clause]:
        tense = self._tense()
        return self._clause(tense), self._clause(tense)

    def _clause(self, tense) -> Clause:
        if self._sometimes(0.3):
            return self._is(self._noun(PERSONS + THINGS), tense)
        return self._acts(self._noun(PERSONS), tense)

    def _is(self, subject, tense) -> Clause:
        if self._sometimes(0.3):
            what, was = self._near()
        else:
            what, was = self._adjective(subject.is_person)
        return self._said_of(subject, BE, tense, what, was, self._sometimes(0.2))

    def _acts(self, subject, tense, modified=0.1) -> Clause:
        """Whatever a person can do, to an object that is modified as often as that."""
        verbs = self._source.choices((SEE, BUY, GIVE, SLEEP), (4, 2, 2, 3))[0]
        if verbs is SLEEP:
            return self._does(subject, verbs, tense)
        given = [self._noun(PERSONS, "dative", 0)] if verbs is GIVE else []
        nouns = PERSONS + THINGS if verbs is SEE else THINGS
        thing = self._noun(nouns, "accusative", modified)
        return self._does(subject, verbs, tense, *given, thing)

    def _does(self, subject, verbs, tense, *objects: Nominal) -> Clause:
        verb = Verb.regular(*self._one_of(verbs))
        # Where there is an object, "nicht" has more than one place.
        negated = verbs is SLEEP and self._sometimes(0.3)
        what, was = (" ".join(o.english for o in objects), " ".join(o.german for o in objects))
        return self._said_of(subject, verb, tense, what, was, negated)

    def _said_of(self, subject, verb, tense, what="", was="", negated=False) -> Clause:
        """A clause: a verb in its form, and what follows it, in English and in German."""
        many, nicht = subject.form == "p", "nicht" if negated else ""
        if tense == "future":
            will = "will not" if negated else "will"
            wird = "werden" if many else "wird"
            said = f"{will} {verb.english[-1]} {what}"
            return Clause(subject, said, wird, f"{nicht} {was} {verb.german[-1]}")
        at = (0 if tense == "past" else 2) + many
        said = verb.english[at]
        if negated:
            said = f"{said} not" if verb is BE else f"{DO[at]} not {verb.english[-1]}"
        return Clause(subject, f"{said} {what}", verb.german[at], f"{nicht} {was}")

    # --- Nouns and what belongs to them ----------------------------------------

    def _noun(self, nouns, case="nominative", modified=0.4) -> Nominal:
        """A noun with what stands before it and, as often as it is modified, what follows."""
        form, one, many, ein, viele = row = self._one_of(nouns)
        english, german, is_person = one, ein, row in _rows(PERSONS)
        if self._sometimes(0.5):
            form, english, german = "p", many, viele
            if case == "dative" and viele[-1] not in "ns":
                german += "n"
        the, der, endings = self._determiner(case, form)
        old = alt = ""
        if self._sometimes(0.4):
            old, alt = self._adjective(is_person)
            alt += self._declined(endings, case, form)
        who, die = self._modifier(form, is_person) if self._sometimes(modified) else ("", "")
        english, german = f"{the} {old} {english} {who}", f"{der} {alt} {german} {die}"
        return Nominal(english, german, form, is_person)

    def _determiner(self, case, form) -> tuple[str, str, str]:
        """A word before a noun, its translation, and the endings of adjectives after it."""
        many = form == "p"
        kind = self._source.choices(("the", "a", "this", "every"), (5, 4, 1, not many))[0]
        if kind == "a" and many:
            return *self._one_of(NUMBERS), "mixed"
        english = "these" if kind == "this" and many else kind
        return english, self._declined(kind, case, form), "mixed" if kind == "a" else "weak"

    def _modifier(self, form, is_person) -> tuple[str, str]:
        """What follows a noun of that form: where it is, or a relative clause."""
        drawn, tense = self._source.random(), self._tense()
        if drawn < 0.4:
            return self._near()
        if drawn < 0.7:
            who, der = "who" if is_person else "that", self._declined("the", "nominative", form)
            subject = Nominal(who, der, form, is_person)
            clause = self._acts(subject, tense, 0) if is_person else self._is(subject, tense)
            return clause.english, f", {clause.german('last')} ,"
        verbs, den = SEE if is_person else SEE + BUY, self._declined("the", "accusative", form)
        clause = self._does(self._noun(PERSONS, modified=0), verbs, tense)
        return f"that {clause.english}", f", {den} {clause.german('last')} ,"

    def _near(self) -> tuple[str, str]:
        (near, bei), noun = self._one_of(NEAR), self._noun(PERSONS + THINGS, "dative", 0)
        return f"{near.replace('_', ' ')} {noun.english}", f"{bei} {noun.german}"

    def _adjective(self, is_person) -> tuple[str, str]:
        return self._one_of(ADJECTIVES + (OF_PERSONS if is_person else OF_THINGS))

    def _declined(self, word, case, form) -> str:
        return self._declensions[word][len(FORMS) * CASES.index(case) + FORMS.index(form)]

    # --- Chance --------------------------------------------------------------

    def _sometimes(self, share) -> bool:
        return self._source.random() < share

    def _one_of(self, table) -> tuple[str, ...]:
        return self._source.choice(_rows(table))


@functools.cache
def _rows(table: str) -> list[tuple[str, ...]]:
    """The lines of a table, each cut at its blanks."""
    return [tuple(line.split()) for line in table.splitlines() if line.strip()]
