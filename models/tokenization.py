"""Sentences to tokens as Universal Dependencies cuts English, in core TensorFlow ops.

Blanks always separate. What lies between two of them is then cut by these rules, in
this order:

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
7. A character of a script written without blanks is a token by itself.

Nothing is normalised: all tokens of a sentence make the sentence again, but for its
blanks, and for bytes that are not UTF-8, which become U+FFFD.
"""

import tensorflow as tf

from models.text import ALONE, BLANK

_APOSTROPHE = "['’´`]"
_OPENING = r"[\"“”„«‹(\[{<*_~‘'`]"
_CLOSING = r"[\"“”»›)\]}>*_~’'`,;:!?.…]"
_ABBREVIATIONS = (
    r"Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Ft|Ave|Blvd|Rd|Gen|Col|Capt|Lt|Sgt|Maj|Adm|Sen|Rep|Gov|Pres"
    r"|Rev|Hon|Inc|Corp|Cos?|Ltd|Bros|Dept|Univ|Assn|Attn|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct"
    r"|Nov|Dec|vs|etc|al|cf|eg|ie|approx|est|ext|tel|fig|vol|pp"
)
_WHOLE = "|".join(
    (
        r"(?:https?|ftp|file|mailto):.*[^.,>]",
        r"www\..*[^.,>]",
        r"[^@<>()\[\]]+@[^@<>()\[\]]+\.[^@<>()\[\].]+",
        r"[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|co|uk|us|info|biz|html?|php|doc|pdf|xls|txt|jpg|ppt|zip)(?:/.*)?",
        r"[@#][\pL_][\w-]*",
        r"[:;=8xX][-o^']?[)(\[\]dDpPoO/\\|]+|<3+|\^_+\^|[:;]-?[)(]+|=\)|=\(",
        rf"{_APOSTROPHE}(?:[sdm]|re|ve|ll|em|tis|twas|cause|n|\d0s)",
    )
)
_LETTER, _WORD = r"\pL\pM", r"\pL\pM\pN"
_EDGES = (
    (rf"^({_OPENING}+)(.+)$", r"\1 \2"),
    (rf"^(.*?[^ ])({_CLOSING}+)$", r"\1 \2"),
    (rf"(?i)((?:^| )(?:{_ABBREVIATIONS}|[{_LETTER}](?:\.[{_LETTER}])*)) \.", r"\1. "),
)
_INSIDE = (
    # Runs of punctuation, apart from one another.
    (r"(\.{2,}|…+|[!?]+|-{2,}|[–—]+|\*+|~+|_{2,}|={2,}|<+|>+)", r" \1 "),
    (r"([\"“”„«»‹›()\[\]{};])", r" \1 "),
    (rf"([^{_WORD}]|^)([:,.])", r"\1 \2"),
    (rf"([:,])([^{_WORD}]|$)", r" \1 \2"),
    (rf"([{_LETTER}])([,:])", r"\1 \2 "),
    (rf"([,:])([{_LETTER}])", r" \1 \2"),
    (r"(``|'')", r" \1 "),
    # Numbers.
    (r"^([$£€¥#]|US\$|C\$|A\$)(\d)", r"\1 \2"),
    (r"(\d)(%|°|[$£€¥])", r"\1 \2"),
    (r"(?i)^(\d+(?:[:.]\d+)?)([ap]\.?m\.?)$", r"\1 \2"),
    # Inside words.
    (
        r"(?i)^(e|x|t|u|re|co|non|pre|ex|un|sub|anti|inter|mid|semi|multi|post|pro|over)-",
        "\\1\x1f",
    ),
    (rf"([{_LETTER}\pN.])-([{_LETTER}])", r"\1 - \2"),
    (rf"([{_LETTER}])-([{_LETTER}\pN])", r"\1 - \2"),
    ("\x1f", "-"),
    (rf"([{_LETTER}])([/&+=])([{_LETTER}])", r"\1 \2 \3"),
    # Clitics.
    (rf"(?i)(^| )(.*[{_LETTER}])(n{_APOSTROPHE}t)( |$)", r"\1\2 \3\4"),
    (rf"(?i)([{_WORD}.])({_APOSTROPHE}(?:s|re|ve|ll|d|m))( |$)", r"\1 \2\3"),
    (r"(?i)^(do|does|did|ca|wo|is|was|are|were|could|should|would|have|has|had)(nt)$", r"\1 \2"),
    (r"(?i)^(can)(not)$", r"\1 \2"),
    (r"(?i)^(gon|wan)(na)$", r"\1 \2"),
    (r"(?i)^(got)(ta)$", r"\1 \2"),
    (rf"(s)({_APOSTROPHE})$", r"\1 \2"),
)


def tokenize(text: tf.Tensor) -> tf.RaggedTensor:
    """Cuts sentences (B,) into tokens (B, T), by the rules above.

    >>> tokenize(["Mr. Bean can't pay $50...", ""]).to_list()
    [[b'Mr.', b'Bean', b'ca', b"n't", b'pay', b'$', b'50', b'...'], []]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    text = tf.strings.regex_replace(text, BLANK, " ")
    text = tf.strings.regex_replace(text, f"({ALONE})", r" \1 ")
    words = tf.strings.split(text)
    for rules in (_EDGES, _INSIDE):
        kept = tf.strings.regex_full_match(words.flat_values, _WHOLE)
        cut = words.flat_values
        for pattern, rewrite in rules:
            cut = tf.strings.regex_replace(cut, pattern, rewrite)
        cut = tf.where(kept, words.flat_values, cut)
        words = words.with_flat_values(tf.strings.split(cut)).merge_dims(1, 2)
    return words
