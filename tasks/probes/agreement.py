"""Number agreement: is the verb to come singular or plural? (Linzen et al. 2016)

"The keys to the cabinet ..." are; between a subject and its verb stand up to four nouns, in
phrases and relative clauses. An attractor is one of them whose number is not the subject's.
Sentences are drawn from a small grammar; the two nouns of an opening ("near the tables, the
key ...") see to it that the subject is not just the first noun.

A word that is not in the vocabulary is read by its last two letters, or as a name; some known
words are too while training, so that words from elsewhere can be read. The six sets of BLiMP
(Warstadt et al. 2020) about this agreement are such: each is a pair of sentences that differ
in the verb or in the subject, and the verb should be likelier in the good one.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting

MOST_ATTRACTORS = 4
_REGULAR = """
    key cabinet table door window picture book letter road river garden bridge tower lamp chair
    mirror boat hill field school hat shirt cup plate bottle report plan machine car bike
    farmer sailor teacher painter doctor pilot king hunter friend cousin brother sister guest
    waiter student writer singer lawyer neighbour visitor author officer dancer patient girl boy
    cat dog horse bird lion
"""
_IRREGULAR = """
    man/men woman/women child/children person/people foot/feet tooth/teeth mouse/mice goose/geese
    wife/wives knife/knives leaf/leaves wolf/wolves thief/thieves city/cities story/stories
    lady/ladies party/parties box/boxes glass/glasses church/churches dish/dishes
    crisis/crises thesis/theses analysis/analyses basis/bases cactus/cacti alumnus/alumni
"""
NOUNS = {noun: f"{noun}s" for noun in _REGULAR.split()}
NOUNS |= dict(pair.split("/") for pair in _IRREGULAR.split())
_NAMES = (("Anna", "Paul", "Marta", "Igor"), ("the Smiths", "the Clintons", "the Lees"))
_DETERMINERS = (
    ("the", "the", "the", "a", "this", "that", "every", "each", "some", "no"),
    ("the", "the", "the", "these", "those", "all", "most", "many", "some", "few", "a lot of"),
)
_OF = ("near", "behind", "of", "about", "with", "beside", "to", "from", "under", "like")
_TRANSITIVE = """
    see/sees/saw like/likes/liked know/knows/knew help/helps/helped find/finds/found
    paint/paints/painted watch/watches/watched praise/praises/praised fear/fears/feared
    visit/visits/visited carry/carries/carried love/loves/loved
"""
_VERBS = [verb.split("/") for verb in _TRANSITIVE.split()]  # plural, singular, past
_AUXILIARIES = ("can", "might", "will", "should", "did")
_PLURAL = {"are", "were", "have", "do", "aren't", "weren't", "haven't", "don't"}
_SINGULAR = {"is", "was", "has", "does", "isn't", "wasn't", "hasn't", "doesn't"}

_DISTANCES = {"0": (0, 0), "1-4": (1, 4), "5-8": (5, 8), "9-12": (9, 12), "13-": (13, 99)}
_BY_ATTRACTORS = tuple(f"{count} attractors" for count in range(MOST_ATTRACTORS + 1))
_BY_DISTANCE = tuple(f"{told} words between" for told in _DISTANCES)

BLIMP = (
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "irregular_plural_subject_verb_agreement_1",
    "irregular_plural_subject_verb_agreement_2",
    "regular_plural_subject_verb_agreement_1",
    "regular_plural_subject_verb_agreement_2",
)


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What stands before a verb.

    Attributes:
        words: Up to the verb, which is to come.
        plural: Whether the verb is plural.
        attractors: Nouns of the other number between the subject and the verb.
        distance: Words between them.
    """

    words: tuple[str, ...]
    plural: bool
    attractors: int
    distance: int


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """The number of a verb to come, of the words before it; the score is the accuracy."""

    kind, steps = "class", 600
    outputs, symbols = 2, True
    curves = {
        "attractors, nouns of the other number between subject and verb": _BY_ATTRACTORS,
        "words between subject and verb": _BY_DISTANCE,
    }

    blimp: str = setting("", "folder of BLiMP's sets as .jsonl, to be tested on too")
    spelled: float = setting(
        0.1, "share of words that training reads by their letters", at_least=0, below=1
    )

    @property
    def features(self):
        return 1 + len(_vocabulary()) + len(_endings())

    def draw(self, rng, count):
        # Most sentences that people write have no attractor; each more is half as common.
        weights = 0.5 ** np.arange(MOST_ATTRACTORS + 1)
        wanted = rng.choice(MOST_ATTRACTORS + 1, count, p=weights / weights.sum())
        return self.encode([sentence(rng, int(n)) for n in wanted], rng)

    def test(self):
        return self.encode(_tested())

    def encode(self, sentences, rng=None) -> probes.Batch:
        """The symbols of sentences and the numbers of their verbs, 1 for plural."""
        inputs = np.zeros((len(sentences), max(len(s.words) for s in sentences)), "int32")
        for row, each in zip(inputs, sentences, strict=True):
            for at, word in enumerate(each.words):
                by_letters = rng is not None and rng.random() < self.spelled
                row[at] = _spelled(word) if by_letters else _symbol(word)
        answers = np.array([each.plural for each in sentences], "int32")
        return probes.Batch(inputs, answers, np.ones(len(sentences), "float32"))

    def score(self, batch, outputs):
        """The accuracy, and that by attractors and by distance, of the test part."""
        found = {"accuracy": probes.accuracy(batch, outputs)}
        right = outputs.argmax(axis=-1) == batch.answers
        for name, of in _groups(_tested()).items():
            found[name] = float(right[of].mean())
        return found

    def chance(self):
        """The commoner number, and what a bag of words can know, by attractors too."""
        test = self.test()
        found = {"accuracy": float(max(test.answers.mean(), 1 - test.answers.mean()))}
        right = _bag_of_words(self, test) == test.answers
        found["accuracy of a bag of words"] = float(right.mean())
        for name, of in _groups(_tested()).items():
            found[f"{name} of a bag of words"] = float(right[of].mean())
        return found

    def outside(self):
        return {name: self.encode(sentences) for name, sentences in self._pairs.items()}

    def score_outside(self, name, outputs):
        """The share of pairs whose verb is the likelier in the good sentence."""
        logs = probes.log_softmax(outputs)
        told = zip(logs, self._pairs[name], strict=True)
        likely = np.array([log[int(sentence.plural)] for log, sentence in told])
        return {name: float((likely[::2] > likely[1::2]).mean())}

    @functools.cached_property
    def _pairs(self):
        return {name: _read(Path(self.blimp) / f"{name}.jsonl") for name in BLIMP if self.blimp}


def sentence(rng: np.random.Generator, attractors: int) -> Sentence:
    """Draws a sentence with so many attractors."""
    plural = bool(rng.integers(2))
    opening = (*_phrase(rng, bool(rng.integers(2))), ",") if rng.random() < 0.3 else ()
    subject = _noun_phrase(rng, plural, names=not attractors)
    numbers = [not plural] * attractors
    for _ in range(rng.integers(0, 3)):
        numbers.insert(int(rng.integers(0, len(numbers) + 1)), plural)
    named = subject[-1] not in _every_noun()
    between = () if named else tuple(w for n in numbers for w in _modifier(rng, n, plural))
    words = (*opening, *subject, *between)
    return Sentence(words, plural, 0 if named else attractors, len(between))


def _pick(rng, some):
    return some[int(rng.integers(len(some)))]


def _noun_phrase(rng, plural, names=True):
    if names and rng.random() < 0.1:
        return tuple(_pick(rng, _NAMES[plural]).split())
    noun = _pick(rng, list(NOUNS))
    return (*_pick(rng, _DETERMINERS[plural]).split(), NOUNS[noun] if plural else noun)


def _phrase(rng, plural):
    return (_pick(rng, _OF), *_noun_phrase(rng, plural))


def _modifier(rng, plural, subject):
    """What hangs on a subject and has a noun: a phrase, or a relative clause of either kind."""
    drawn, (many, one, past) = rng.random(), _pick(rng, _VERBS)
    if drawn < 0.5:
        return _phrase(rng, plural)
    noun, that = _noun_phrase(rng, plural), _pick(rng, ("that", "who"))
    if drawn < 0.65:  # its verb would tell the number of the subject, if it were not past
        return (that, past, *noun)
    if drawn < 0.75:
        return (that, _pick(rng, _AUXILIARIES), many, *noun)
    return (that, *noun, many if plural else one)


@functools.cache
def _every_noun():
    return frozenset(NOUNS) | frozenset(NOUNS.values())


@functools.cache
def _vocabulary():
    """The symbols of the grammar's words."""
    words = {*_every_noun(), *_OF, *_AUXILIARIES, ",", "that", "who"}
    words |= {w for verb in _VERBS for w in verb}
    words |= {w for some in (*_DETERMINERS, *_NAMES) for told in some for w in told.split()}
    return {word: at for at, word in enumerate(sorted(words), 1)}


@functools.cache
def _endings():
    """The symbols of the endings that the grammar's words have, of names, and of any other."""
    endings = {_ending(word) for word in _vocabulary()} | {"", "Name", "Names"}
    return {ending: at for at, ending in enumerate(sorted(endings), 1 + len(_vocabulary()))}


def _ending(word):
    if word[:1].isupper():
        return "Names" if word.endswith("s") else "Name"
    return word[-2:]


def _spelled(word):
    return _endings().get(_ending(word), _endings()[""])


def _symbol(word):
    return _vocabulary().get(word) or _spelled(word)


@functools.cache
def _tested():
    """A thousand sentences of each number of attractors."""
    rng = np.random.default_rng(probes.SEED)
    return tuple(sentence(rng, n) for n in range(MOST_ATTRACTORS + 1) for _ in range(1000))


def _groups(sentences):
    """The rows of sentences by attractors, and by words between subject and verb."""
    attractors = np.array([s.attractors for s in sentences])
    distance = np.array([s.distance for s in sentences])
    found = {name: attractors == count for count, name in enumerate(_BY_ATTRACTORS)}
    for name, (low, high) in zip(_BY_DISTANCE, _DISTANCES.values(), strict=True):
        found[name] = (distance >= low) & (distance <= high)
    return found


def _bag_of_words(probe, test):
    """What logistic regression of the words, in no order, says of the test part."""

    def counted(batch):
        bags = np.zeros((len(batch.inputs), probe.features))
        np.add.at(bags, (np.arange(len(bags))[:, None], batch.inputs), 1.0)
        bags[:, probes.PADDING] = 1.0
        return bags

    learnt = probe.draw(np.random.default_rng(0), 8000)
    bags, weights = counted(learnt), np.zeros(probe.features)
    for _ in range(200):
        given = 1 / (1 + np.exp(-bags @ weights))
        weights -= 2.0 * bags.T @ (given - learnt.answers) / len(bags)
    return counted(test) @ weights > 0


# --- BLiMP -------------------------------------------------------------------


def _read(path) -> list[Sentence]:
    """Of each pair what stands before the verb of the good sentence, then of the bad one."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"--blimp: {path}: cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            for told in ("good", "bad"):
                if row["one_prefix_method"]:  # the verbs differ, or else the subjects do
                    before, verb = row["one_prefix_prefix"], row[f"one_prefix_word_{told}"]
                else:
                    before, verb = row[f"two_prefix_prefix_{told}"], row["two_prefix_word"]
                found.append(Sentence(_words(before), _is_plural(verb.split()[0]), 0, 0))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{path}:{number}: is no pair of BLiMP: {error!r}.") from error
    return found


def _words(text):
    """The words of a text, the first in lower case if it is a word of the grammar's then."""
    first, *rest = text.split()
    return (first.lower() if first.lower() in _vocabulary() else first, *rest)


def _is_plural(verb):
    if verb in _PLURAL or verb in _SINGULAR:
        return verb in _PLURAL
    return not verb.endswith("s") or verb.endswith("ss")
