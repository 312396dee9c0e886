"""The rules by which sentences become tokens, by examples and by what no rule may break."""

import itertools
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from models.text.ud_tokenizer import tokenize


def tokens(text):
    return [token.decode() for token in tokenize([text]).to_list()[0]]


# Sentences by what each is an example of, and their tokens with blanks between.
RULES = {
    "blanks": [
        ("", ""),
        (" \t\n\x0b\x1f\x85\u00a0\u2009\u2028\u3000 ", ""),
        ("one  two\u00a0three\u3000four\tfive", "one two three four five"),
        ("a\x00b\x1fc", "a b c"),
    ],
    "scripts without blanks": [
        ("好电影!テスト", "好 电 影 ! テ ス ト"),
        ("the film好 is", "the film 好 is"),
        ("(สวัสดี)", "( ส วั ส ดี )"),
        ("#好", "# 好"),
    ],
    "addresses": [
        ("see http://a.b/c?d=e&f, then", "see http://a.b/c?d=e&f , then"),
        ("(https://a.b/c).", "( https://a.b/c ) ."),
        ("http://a.b/c_(d)", "http://a.b/c_(d)"),
        ('"www.a-b.org/x-y"!', '" www.a-b.org/x-y " !'),
        ("HTTP://A.B/C...", "HTTP://A.B/C ..."),
        ("a.b-c@d-e.org; <f@g.h>", "a.b-c@d-e.org ; < f@g.h >"),
        ("'a@b.c',", "' a@b.c ' ,"),
        ("google.com/maps, (google.com/)", "google.com/maps , ( google.com/ )"),
    ],
    "hashtags, users and files": [
        ("#hash-tag, #café.", "#hash-tag , #café ."),
        ('"@user_1"?', '" @user_1 " ?'),
        ("(the-file_2.pdf)", "( the-file_2.pdf )"),
        ("index.html.", "index.html ."),
    ],
    "emoticons": [
        (":) :-( ;-) =) :'( :D :-P xD 8-) <3 ^_^", ":) :-( ;-) =) :'( :D :-P xD 8-) <3 ^_^"),
        ("(so :)).", "( so :)) ."),
        ("great :D!!", "great :D !!"),
        ("8) x) (8)", "8 ) x ) ( 8 )"),  # numbers of a list, and no faces
    ],
    "words with an apostrophe before them": [
        ("get 'em", "get 'em"),
        ("get 'em!", "get 'em !"),
        ('("\'tis ’Twas")', '( " \'tis ’Twas " )'),
        ("the '90s, '80s", "the '90s , '80s"),
    ],
    "edges": [
        ('("word"),', '( " word " ) ,'),
        ("“¿Qué?” «oui» „ja“", "“ ¿Qué ? ” « oui » „ ja “"),
        ("[a] {b} <c>", "[ a ] { b } < c >"),
        ("''quoted'' ``so''", "'' quoted '' `` so ''"),
        ("word's, 'word', words'.", "word 's , ' word ' , words ' ."),
        ("yes, no; so: end.", "yes , no ; so : end ."),
        ("a .' ,\" ?'", "a . ' , \" ? '"),
    ],
    "runs": [
        (
            "... .. .... ?! !! ?!? -- --- ~~~ ** '' ===",
            "... .. .... ?! !! ?!? -- --- ~~~ ** '' ===",
        ),
        ("wait... what?! no!! …", "wait ... what ?! no !! …"),
        ("...so a...b", "... so a ... b"),
        ("(etc...) Mr...", "( etc ... ) Mr ..."),
        ('end..." end--"', 'end ... " end -- "'),
        ("well--known a–b c—d", "well -- known a – b c — d"),
        ("**bold** __under__ <<a>>", "** bold ** __ under __ << a >>"),
        ("!?...", "!? ..."),
    ],
    "full stops that stay": [
        ("Mr. Bean etc. MR. bean", "Mr. Bean etc. MR. bean"),
        ("U.S. J. p.m. e.g.", "U.S. J. p.m. e.g."),
        ("(etc.), (J.)", "( etc. ) , ( J. )"),
        ("etc.: U.S.,", "etc. : U.S. ,"),
        ("the end. Ann.", "the end . Ann ."),
        ("U.S.-based U.S.'s", "U.S. - based U.S. 's"),
    ],
    "clitics": [
        ("don't can't AIN'T doesn’t", "do n't ca n't AI N'T does n’t"),
        ("it's I'm we'll they've you're he'd", "it 's I 'm we 'll they 've you 're he 'd"),
        ("wouldn't've", "would n't 've"),
        ("cannot Cannot gonna wanna gotta", "can not Can not gon na wan na got ta"),
        ("dont didnt", "do nt did nt"),
        ("(it's), don't!", "( it 's ) , do n't !"),
        ("don't/won't", "do n't / wo n't"),
        ("o'clock y'all nt canton", "o'clock y'all nt canton"),
    ],
    "hyphens and slashes": [
        ("well-known and/or", "well - known and / or"),
        ("a-b-c-d a/b/c/d a+b+c A&B", "a - b - c - d a / b / c / d a + b + c A & B"),
        ("e-mail co-owner Non-US x-ray", "e-mail co-owner Non-US x-ray"),
        ("(e-mail) e-mail-list", "( e-mail ) e-mail - list"),
        ("3-year A-1 50/month été-hiver", "3 - year A - 1 50 / month été - hiver"),
        ("24/7 555-1234 1999-2000", "24/7 555-1234 1999-2000"),
    ],
    "numbers": [
        ("1,000.50 10:30 3.14 1:2:3", "1,000.50 10:30 3.14 1:2:3"),
        ("1,000.50, 10:30: 3.14.", "1,000.50 , 10:30 : 3.14 ."),
        ("a,b 1,a a:1", "a , b 1 , a a : 1"),
        ("$50 €5.50 £3 US$30 #1", "$ 50 € 5.50 £ 3 US$ 30 # 1"),
        ("20% 3° 50€ (20%).", "20 % 3 ° 50 € ( 20 % ) ."),
        ("$5-$10", "$ 5 - $ 10"),
        ("5pm 5:30pm 5PM.", "5 pm 5:30 pm 5 PM ."),
        ("(5p.m.), 10a.m.", "( 5 p.m. ) , 10 a.m."),
    ],
}


@pytest.mark.parametrize(
    ("text", "wanted"), [case for cases in RULES.values() for case in cases], ids=repr
)
def test_sentences_are_cut_by_the_rules(text, wanted):
    assert tokens(text) == wanted.split()


PARTS = [
    *"ab É9ß5.,:;!?'’\"“”()[]<>{}-–—/_*~=+&#@$€%°…`´«»^|\\",
    *("'s", "n't", "''", "...", "--", "http://", "www.", ".com", "@b.org", ":)", "Mr.", "U.S."),
    *("can", "not", "e-", "can't", "'em", "p.m.", "$5", "10:30", "a-b", "US$"),
    *"好カสดี한글ا\u0301\u200d\u200b\ufeff\ufffd\uffff😀👍🏽\U0010ffff",
    *("\x00", "\x1e", "\x1f", "\x7f", "\x85", "\xa0", "\u2028", "\u3000", "\t", "\n", "\r"),
]
BROKEN = [b"\xff", b"\xe5\xa5", b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\x80"]


def anything(count):
    """Texts of all that could come together, every other one with bytes that are not UTF-8."""
    rng = np.random.default_rng(0)
    parts = [part.encode() for part in PARTS]
    for number in range(count):
        some = parts + BROKEN if number % 2 else parts
        yield b"".join(some[at] for at in rng.integers(0, len(some), rng.integers(0, 25)))


def without_blanks(text):
    return "".join(
        char for char in text if unicodedata.category(char) not in ("Cc", "Zs", "Zl", "Zp")
    )


def test_tokens_are_the_text_again_but_for_blanks():
    texts = list(anything(4000))
    for text, found in zip(texts, tokenize(texts).to_list(), strict=True):
        found = [token.decode() for token in found]
        assert "".join(found) == without_blanks(text.decode("utf-8", "replace")), text
        assert all(found), text  # none is empty
        assert all(token == without_blanks(token) for token in found), text  # none holds a blank


def test_blanks_always_separate():
    """What is cut beside a blank is what each side is cut into by itself."""
    texts = list(anything(1500))
    sides = tokenize(texts).to_list()
    for blank in (" ", "\t", "\xa0", "\u3000", "\x00"):
        both = [one + blank.encode() + two for one, two in itertools.pairwise(texts)]
        for at, found in enumerate(tokenize(both).to_list()):
            assert found == sides[at] + sides[at + 1], both[at]


def test_a_sentence_does_not_depend_on_its_batch():
    texts = [*anything(40), b"", b"it's " * 1000, b"."]
    together = tokenize(texts).to_list()
    assert together == [tokenize([text]).to_list()[0] for text in texts]
    assert together == tokenize(texts[::-1]).to_list()[::-1]
    assert tokenize(tf.constant([], tf.string)).to_list() == []


def spans(words):
    """Where words begin and end among the characters that are no blanks."""
    ends = np.cumsum([len("".join(word.split())) for word in words]).tolist()
    return set(zip([0, *ends], ends, strict=False))


def test_real_sentences_are_cut_as_people_cut_them(data_dir):
    path = data_dir / "tagging" / "en_ewt" / "en_ewt-ud-test.conllu"
    texts, words = [], []
    for line in path.read_text("utf-8").split("\n"):
        if line.startswith("# text = "):
            texts.append(line.removeprefix("# text = "))
            words.append([])
        elif line.split("\t")[0].isdecimal():
            words[-1].append(line.split("\t")[1])
    assert len(texts) > 2000
    both = right = 0
    for given, wanted in zip(tokenize(texts).to_list(), words, strict=True):
        given = spans([token.decode() for token in given])
        both += len(given) + len(spans(wanted))
        right += 2 * len(given & spans(wanted))
    assert right / both > 0.985
