"""Embedded sample for translation: English sentences from a seeded grammar, and their
translations into simplified German.

The vocabulary is simplified (few and regular words, no contractions such as "beim"), the
grammar is not. The German form of a word often depends on more than the English word:

* Number and gender. "the women near the old tower slept" and "the woman near the old
  tower slept" differ far from the verb, which is "schliefen" or "schlief". "it" is "er",
  "sie" or "es" depending on its antecedent in the preceding clause.
* Case. "the king gave the queen the key" has the same "the" three times; "der König gab
  der Königin den Schlüssel".
* Order. The verb is second in a main clause and last in a subordinate clause, and an
  infinitive comes last: "the king will see the tower" is "der König wird den Turm
  sehen", or "weil der König den Turm sehen wird".

A dictionary is therefore not sufficient, whatever it contains, nor is a model that forgets the
subject before it reaches the verb. Each sentence has exactly one translation.
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

# Gender (masculine, feminine, neuter); singular and plural in English, then in German.
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
# Past, third person singular present, infinitive; in English, then in German.
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
# Prepositions of place; in German all of them take the dative.
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
# Words that agree with a noun: masculine, feminine, neuter and plural in each case. For
# adjectives their endings, which are weak after "the" and mixed after "a" and numbers.
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
    """Noun phrase: "the old tower", "den alten Turm".

    Attributes:
        english: The English phrase.
        german: The German phrase.
        form: Gender or plural, one of `FORMS`.
        is_person: Whether it can perform actions.
    """

    english: str
    german: str
    form: str
    is_person: bool = False


@dataclasses.dataclass(frozen=True)
class Verb:
    """Forms of a verb: past singular and plural, present singular and plural, infinitive."""

    english: tuple[str, ...]
    german: tuple[str, ...]

    @classmethod
    def regular(cls, saw: str, sees: str, see: str, sah: str, sieht: str, sehen: str) -> "Verb":
        """Builds a verb from its principal parts."""
        sahen = sah + ("n" if sah.endswith("e") else "en")
        return cls((saw, saw, sees, see, see), (sah, sahen, sieht, sehen, sehen))


BE = Verb(("was", "were", "is", "are", "be"), ("war", "waren", "ist", "sind", "sein"))
DO = ("did", "did", "does", "do")


@dataclasses.dataclass(frozen=True)
class Clause:
    """A subject and a predicate, as in "the king" and "will see the tower".

    Attributes:
        subject: The subject.
        predicate: The English predicate, "will see the tower".
        verb: The finite verb in German, "wird".
        rest: The rest of the German predicate, "den Turm sehen".
    """

    subject: Nominal
    predicate: str
    verb: str
    rest: str

    @property
    def english(self) -> str:
        return f"{self.subject.english} {self.predicate}"

    def german(self, verb_position: str = "second") -> str:
        """Returns the clause with its finite verb in "first", "second" or "last" position."""
        subject, verb, rest = self.subject.german, self.verb, self.rest
        orders = {
            "first": (verb, subject, rest),
            "second": (subject, verb, rest),
            "last": (subject, rest, verb),
        }
        return " ".join(orders[verb_position])


def parts() -> dict[str, Stream]:
    """Returns the three parts; each is generated whenever it is read."""
    return {part: Stream(lambda part=part: _draw(part)) for part in SIZES}


def _draw(part: str) -> Iterator[Example]:
    generator, texts = SentenceGenerator(random.Random(f"{SEED} {part}")), set()
    low, high = _SHARES[part]
    while len(texts) < SIZES[part]:
        text, translation = generator.sentence()
        if low <= position(text) < high and text not in texts:
            texts.add(text)
            values = {"text": text, "translation": translation}
            yield Example(values, f"sample:{part}:{len(texts)}")


class SentenceGenerator:
    """Generates sentences in English and German.

    Args:
        rng: Source of random decisions; the sentences are a function of its state.
    """

    def __init__(self, rng: random.Random):
        self._rng = rng
        self._declensions = {name: forms for name, *forms in _rows(DECLENSIONS)}

    def sentence(self) -> tuple[str, str]:
        """Returns a sentence and its translation; spaces separate words and punctuation."""
        kinds = {
            self._plain: 4,
            self._reported: 3,
            self._because: 2,
            self._because_first: 2,
            self._together: 2,
            self._but_it: 4,
        }
        (kind,) = self._rng.choices([*kinds], [*kinds.values()])
        english, german = (" ".join(f"{text} .".split()) for text in kind())
        english = re.sub(r"\ba (?=[aeiou])", "an ", english)
        # No comma before a full stop or another comma.
        return english, re.sub(r"( ,)+(?= [,.])", "", german)

    # --- Kinds of sentences --------------------------------------------------

    def _plain(self) -> tuple[str, str]:
        tense = self._tense()
        clause = self._clause(tense)
        if self._chance(0.7):
            return clause.english, clause.german()
        when, wann = self._pick(WHEN[tense])
        return f"{when} {clause.english}", f"{wann} {clause.german('first')}"

    def _reported(self) -> tuple[str, str]:
        main = self._does(self._noun(PERSONS), SAY, self._tense())
        clause = self._clause(self._tense())
        english = f"{main.english} that {clause.english}"
        return english, f"{main.german()} , dass {clause.german('last')}"

    def _because(self) -> tuple[str, str]:
        first, second = self._two_clauses()
        because, weil = self._pick(BECAUSE)
        english = f"{first.english} {because} {second.english}"
        return english, f"{first.german()} , {weil} {second.german('last')}"

    def _because_first(self) -> tuple[str, str]:
        first, second = self._two_clauses()
        because, weil = self._pick(BECAUSE)
        english = f"{because} {first.english} , {second.english}"
        return english, f"{weil} {first.german('last')} , {second.german('first')}"

    def _together(self) -> tuple[str, str]:
        """Two predicates of one subject."""
        tense, subject = self._tense(), self._noun(PERSONS)
        first, second = (self._acts(subject, tense) for _ in range(2))
        english = f"{first.english} and {second.predicate}"
        return english, f"{first.german()} und {second.verb} {second.rest}"

    def _but_it(self) -> tuple[str, str]:
        """Two clauses, of which the second has a pronoun for the subject of the first."""
        tense, thing = self._tense(), self._noun(THINGS)
        first = self._is(thing, tense)
        is_subject = self._chance(0.5)
        if thing.form != "p":
            word = "it"
        elif is_subject:
            word = "they"
        else:
            word = "them"
        case = "nominative" if is_subject else "accusative"
        pronoun = Nominal(word, self._declined("it", case, thing.form), thing.form)
        if is_subject:
            second = self._is(pronoun, tense)
        else:
            second = self._does(self._noun(PERSONS), self._rng.choice((SEE, BUY)), tense, pronoun)
        english = f"{first.english} , but {second.english}"
        return english, f"{first.german()} , aber {second.german()}"

    # --- Clauses -------------------------------------------------------------

    def _tense(self) -> str:
        return self._rng.choices(("past", "present", "future"), (4, 3, 3))[0]

    def _two_clauses(self) -> tuple[Clause, Clause]:
        tense = self._tense()
        return self._clause(tense), self._clause(tense)

    def _clause(self, tense: str) -> Clause:
        if self._chance(0.3):
            return self._is(self._noun(PERSONS + THINGS), tense)
        return self._acts(self._noun(PERSONS), tense)

    def _is(self, subject: Nominal, tense: str) -> Clause:
        """The subject has a property or is somewhere."""
        if self._chance(0.3):
            what, was = self._near()
        else:
            what, was = self._adjective(subject.is_person)
        return self._predicate(subject, BE, tense, what, was, negated=self._chance(0.2))

    def _acts(self, subject: Nominal, tense: str, modified: float = 0.1) -> Clause:
        """A person does something; `modified` is the probability that the object is modified."""
        verbs = self._rng.choices((SEE, BUY, GIVE, SLEEP), (4, 2, 2, 3))[0]
        if verbs is SLEEP:
            return self._does(subject, verbs, tense)
        objects = []
        if verbs is GIVE:
            objects.append(self._noun(PERSONS, "dative", 0))
        nouns = PERSONS + THINGS if verbs is SEE else THINGS
        objects.append(self._noun(nouns, "accusative", modified))
        return self._does(subject, verbs, tense, *objects)

    def _does(self, subject: Nominal, verbs: str, tense: str, *objects: Nominal) -> Clause:
        verb = Verb.regular(*self._pick(verbs))
        # Only without an object, since otherwise "nicht" has more than one possible position.
        negated = verbs is SLEEP and self._chance(0.3)
        what, was = (" ".join(o.english for o in objects), " ".join(o.german for o in objects))
        return self._predicate(subject, verb, tense, what, was, negated)

    def _predicate(
        self,
        subject: Nominal,
        verb: Verb,
        tense: str,
        what: str = "",
        was: str = "",
        negated: bool = False,
    ) -> Clause:
        """Builds a clause from a verb and its complement in English (what) and German (was)."""
        plural, nicht = subject.form == "p", "nicht" if negated else ""
        if tense == "future":
            will = "will not" if negated else "will"
            wird = "werden" if plural else "wird"
            english = f"{will} {verb.english[-1]} {what}"
            return Clause(subject, english, wird, f"{nicht} {was} {verb.german[-1]}")
        index = (0 if tense == "past" else 2) + plural
        english = verb.english[index]
        if negated and verb is BE:
            english = f"{english} not"
        elif negated:
            english = f"{DO[index]} not {verb.english[-1]}"
        return Clause(subject, f"{english} {what}", verb.german[index], f"{nicht} {was}")

    # --- Noun phrases ----------------------------------------------------------

    def _noun(self, nouns: str, case: str = "nominative", modified: float = 0.4) -> Nominal:
        """Builds a noun phrase; `modified` is the probability of a modifier after the noun."""
        form, english, plural, german, german_plural = row = self._pick(nouns)
        is_person = row in _rows(PERSONS)
        if self._chance(0.5):
            form, english, german = "p", plural, german_plural
            if case == "dative" and german[-1] not in "ns":
                german += "n"
        the, der, endings = self._determiner(case, form)
        old = alt = who = die = ""
        if self._chance(0.4):
            old, alt = self._adjective(is_person)
            alt += self._declined(endings, case, form)
        if self._chance(modified):
            who, die = self._modifier(form, is_person)
        english, german = f"{the} {old} {english} {who}", f"{der} {alt} {german} {die}"
        return Nominal(english, german, form, is_person)

    def _determiner(self, case: str, form: str) -> tuple[str, str, str]:
        """Returns a determiner, its translation, and the declension of adjectives after it."""
        plural = form == "p"
        kinds = {"the": 5, "a": 4, "this": 1, "every": 0 if plural else 1}
        kind = self._rng.choices([*kinds], [*kinds.values()])[0]
        if kind == "a" and plural:
            return *self._pick(NUMBERS), "mixed"
        english = "these" if kind == "this" and plural else kind
        return english, self._declined(kind, case, form), "mixed" if kind == "a" else "weak"

    def _modifier(self, form: str, is_person: bool) -> tuple[str, str]:
        """Returns a prepositional phrase or a relative clause that follows a noun."""
        kind, tense = self._rng.random(), self._tense()
        if kind < 0.4:
            return self._near()
        if kind < 0.7:
            who, der = "who" if is_person else "that", self._declined("the", "nominative", form)
            subject = Nominal(who, der, form, is_person)
            clause = self._acts(subject, tense, 0) if is_person else self._is(subject, tense)
            return clause.english, f", {clause.german('last')} ,"
        verbs, den = SEE if is_person else SEE + BUY, self._declined("the", "accusative", form)
        clause = self._does(self._noun(PERSONS, modified=0), verbs, tense)
        return f"that {clause.english}", f", {den} {clause.german('last')} ,"

    def _near(self) -> tuple[str, str]:
        (near, bei), noun = self._pick(NEAR), self._noun(PERSONS + THINGS, "dative", 0)
        return f"{near.replace('_', ' ')} {noun.english}", f"{bei} {noun.german}"

    def _adjective(self, is_person: bool) -> tuple[str, str]:
        return self._pick(ADJECTIVES + (OF_PERSONS if is_person else OF_THINGS))

    def _declined(self, word: str, case: str, form: str) -> str:
        return self._declensions[word][len(FORMS) * CASES.index(case) + FORMS.index(form)]

    # --- Random decisions --------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _pick(self, table: str) -> tuple[str, ...]:
        return self._rng.choice(_rows(table))


@functools.cache
def _rows(table: str) -> list[tuple[str, ...]]:
    """Returns the lines of a table, each split at spaces."""
    return [tuple(line.split()) for line in table.splitlines() if line.strip()]
