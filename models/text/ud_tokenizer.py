"""Sentences to tokens as Universal Dependencies cuts English, in core TensorFlow ops.

Blanks always separate, and a character of a script written without blanks is a token
by itself. What lies between is then cut by these rules, in this order:

1. Web and mail addresses, hashtags, names of files, emoticons and words such as
   "'em" stay whole, once the quotes and brackets around them and the punctuation
   after them are off.
2. Quotes and brackets before a word, and punctuation after it, are tokens of their
   own. Runs of one kind hold together: "...", "--", "?!".
3. A full stop stays with an abbreviation ("Mr.", "etc.") and with letters that have
   one each ("U.S.", "J.").
4. English clitics come off: "do n't", "it 's", "we 'll", "can not", "gon na".
5. Inside a word hyphens and slashes are tokens ("well - known", "and / or"), but for
   prefixes ("e-mail", "co-owner") and between digits ("24/7", "555-1234"), where
   commas, colons and full stops hold together too ("1,000.50", "10:30").
6. Signs of currency, percent and number come off a number ("$ 50", "20 %", "# 1"),
   and "am" and "pm" too ("5 pm").

Nothing is normalised: all tokens of a sentence make the sentence again, but for its
blanks, and for bytes that are not UTF-8, which become U+FFFD.
"""

import tensorflow as tf

from .words import ALONE, BLANK

_APOSTROPHE = "['’´`]"
_OPENING = r"\"“”„«‹(\[{<*_~‘'`"
_CLOSING = r"\"“”»›)\]}>*_~’'`,;:!?.…"
_AROUND = r"\"“”„«»‹›()\[\]{}<>‘’'`"  # quotes and brackets
_ABBREVIATIONS = (
    r"Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Ft|Ave|Blvd|Rd|Gen|Col|Capt|Lt|Sgt|Maj|Adm|Sen|Rep|Gov|Pres"
    r"|Rev|Hon|Inc|Corp|Cos?|Ltd|Bros|Dept|Univ|Assn|Attn|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct"
    r"|Nov|Dec|vs|etc|al|cf|eg|ie|approx|est|ext|tel|fig|vol|pp"
)
_LETTER, _WORD = r"\pL\pM", r"\pL\pM\pN"
# An address ends before what only closes, but for brackets that it opened itself.
_ADDRESS = rf"(?:.*\([^()]*\)|.*[^{_AROUND},;:!?.…])"
_SUFFIX = "com|org|net|edu|gov|co|uk|us|info|biz|html?|php|doc|pdf|xls|txt|jpg|ppt|zip"
_WHOLE = "|".join(
    (
        rf"(?:https?|ftp|file|mailto):{_ADDRESS}",
        rf"www\.{_ADDRESS}",
        rf"[^@{_AROUND}][^@\"<>()\[\]]*@[^@{_AROUND}]+\.[{_WORD}-]+",
        rf"[\w-]+(?:\.[\w-]+)*\.(?:{_SUFFIX})(?:/|/{_ADDRESS})?",
        rf"[@#][\pL_][{_WORD}_-]*",
        r"[:;=][-o^']?[)(\[\]dpo/\\|]+|[8x](?:-[)(dp]|d)+|<3+|\^_+\^",
        rf"{_APOSTROPHE}(?:[sdm]|re|ve|ll|em|tis|twas|cause|n|\d0s)",
    )
)
_EDGES = (
    (rf"(?i)^([{_OPENING}]*?)({_WHOLE})([{_CLOSING}]*)$", r"\1 \2 \3"),
    (rf"^([{_OPENING}]+)([^ {_OPENING}].*)$", r"\1 \2"),
    (rf"^(.*[^ {_CLOSING}])([{_CLOSING}]+)$", r"\1 \2"),
    (r"(?i)(^| )(\d+(?:[:.]\d+)?)([ap]\.?m\.?)( |$)", r"\1\2 \3\4"),
    (
        rf"(?i)((?:^| )(?:{_ABBREVIATIONS}|[{_LETTER}](?:\.[{_LETTER}])*)) \.([^.]|$)",
        r"\1. \2",
    ),
)
_WITHIN_WORDS = (
    # Runs of punctuation, apart from one another.
    (r"(\.{2,}|…+|[!?]+|-{2,}|[–—]+|\*+|~+|_{2,}|={2,}|<+|>+|``|'')", r" \1 "),
    (r"([\"“”„«»‹›()\[\]{};])", r" \1 "),
    *((rf"([^{_WORD} {mark}]|^)({mark})", r"\1 \2") for mark in (":", ",", r"\.")),
    *((rf"({mark})([^{_WORD} {mark}]|$)", r" \1 \2") for mark in (":", ",")),
    (rf"([.:,])({_APOSTROPHE})", r"\1 \2"),
    (rf"([{_LETTER}])([,:])", r"\1 \2 "),
    (rf"([,:])([{_LETTER}])", r" \1 \2"),
    # Numbers.
    (r"(\d)([-/])([$£€¥]\d)", r"\1 \2 \3"),
    (r"(^| )(US\$|C\$|A\$|[$£€¥#])(\d)", r"\1 \2 \3"),
    (r"(\d)(%|°|[$£€¥])", r"\1 \2 "),
    # Inside words.
    (
        r"(?i)(^| )(e|x|t|u|re|co|non|pre|ex|un|sub|anti|inter|mid|semi|multi|post|pro|over)-",
        "\\1\\2\x1f",
    ),
    (rf"([{_WORD}.])([-/])([{_LETTER}])", r"\1 \2 \3"),
    (rf"([{_LETTER}])([-/])([{_WORD}])", r"\1 \2 \3"),
    ("\x1f", "-"),
    *[(rf"([{_LETTER}])([&+=])([{_LETTER}])", r"\1 \2 \3")] * 2,  # "a+b+c": matches share no b
    # Clitics.
    (rf"(?i)([{_WORD}.])({_APOSTROPHE}(?:s|re|ve|ll|d|m))( |$)", r"\1 \2\3"),
    (rf"(?i)([{_LETTER}])(n{_APOSTROPHE}t)( |$)", r"\1 \2\3"),
    (r"(?i)^(do|does|did|ca|wo|is|was|are|were|could|should|would|have|has|had)(nt)$", r"\1 \2"),
    (r"(?i)^(can)(not)$", r"\1 \2"),
    (r"(?i)^(gon|wan)(na)$", r"\1 \2"),
    (r"(?i)^(got)(ta)$", r"\1 \2"),
    (rf"(s)({_APOSTROPHE})$", r"\1 \2"),
)


def tokenize(text: tf.Tensor) -> tf.RaggedTensor:
    """Cuts sentences (B,) into tokens (B, T), by the rules above.

    >>> tokenize(["Mr. Bean can't pay $50 (or 20%)..."]).to_list()
    [[b'Mr.', b'Bean', b'ca', b"n't", b'pay', b'$', b'50', b'(', b'or', b'20', b'%', b')', b'...']]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.regex_replace(text, BLANK, " ")
    text = tf.strings.regex_replace(text, f"({ALONE})", r" \1 ")
    words = _cut(tf.strings.split(text), _EDGES)
    whole = tf.strings.regex_full_match(words.flat_values, f"(?i){_WHOLE}")
    return _cut(words, _WITHIN_WORDS, whole)


def _cut(words, rules, whole=None):
    """Words (B, T) cut where the rules put a blank, but for those that are kept."""
    cut = words.flat_values
    for pattern, rewrite in rules:
        cut = tf.strings.regex_replace(cut, pattern, rewrite)
    cut = cut if whole is None else tf.where(whole, words.flat_values, cut)
    return words.with_flat_values(tf.strings.split(cut)).merge_dims(1, 2)
