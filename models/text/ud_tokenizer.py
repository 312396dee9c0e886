"""English tokens as in Universal Dependencies, in core TensorFlow ops.

Blanks always separate tokens, and a character of a script written without blanks is a token by
itself. The text between is split by these rules, in this order:

1. Web and mail addresses, hashtags, file names, emoticons and words such as "'em" are tokens,
   after the quotes and brackets around them and the punctuation after them are split off.
2. Quotes and brackets before a word, and punctuation after it, are tokens. Runs of one kind are
   a single token: "...", "--", "?!".
3. A full stop belongs to an abbreviation ("Mr.", "etc.") and to letters that each have one
   ("U.S.", "J.").
4. English clitics are tokens: "do n't", "it 's", "we 'll", "can not", "gon na".
5. Hyphens and slashes inside a word are tokens ("well - known", "and / or"), except after
   prefixes ("e-mail", "co-owner") and between digits ("24/7", "555-1234"), where commas, colons
   and full stops do not split either ("1,000.50", "10:30").
6. Signs of currency, percent and number are split off a number ("$ 50", "20 %", "# 1"), and so
   are "am" and "pm" ("5 pm").

Nothing is normalised: the concatenated tokens are the sentence without its blanks, except that
bytes that are not UTF-8 become U+FFFD.

Shapes: B sentences, T tokens.
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
# An address ends before closing quotes and punctuation, except a bracket that it opened.
_ADDRESS = rf"(?:.*\([^()]*\)|.*[^{_AROUND},;:!?.…])"
_SUFFIX = "com|org|net|edu|gov|co|uk|us|info|biz|html?|php|doc|pdf|xls|txt|jpg|ppt|zip"
WHOLE = "|".join(
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
BLANKS = ((BLANK, " "), (f"({ALONE})", r" \1 "))
EDGES = (
    (rf"(?i)^([{_OPENING}]*?)({WHOLE})([{_CLOSING}]*)$", r"\1 \2 \3"),
    (rf"^([{_OPENING}]+)([^ {_OPENING}].*)$", r"\1 \2"),
    (rf"^(.*[^ {_CLOSING}])([{_CLOSING}]+)$", r"\1 \2"),
    (r"(?i)(^| )(\d+(?:[:.]\d+)?)([ap]\.?m\.?)( |$)", r"\1\2 \3\4"),
    (
        rf"(?i)((?:^| )(?:{_ABBREVIATIONS}|[{_LETTER}](?:\.[{_LETTER}])*)) \.([^.]|$)",
        r"\1. \2",
    ),
)
WITHIN_WORDS = (
    # Runs of punctuation.
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
    *[(rf"([{_LETTER}])([&+=])([{_LETTER}])", r"\1 \2 \3")]
    * 2,  # twice, as in "a+b+c" matches cannot share b
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
    """Splits sentences into tokens, by the rules of the module.

    Args:
        text: (B,) strings.

    Returns:
        (B, T) strings, ragged.

    Example:
        >>> tokenize(["Mr. X can't pay $50 (or 20%)..."]).to_list()
        [[b'Mr.', b'X', b'ca', b"n't", b'pay', b'$', b'50', b'(', b'or', b'20', b'%', b')', b'...']]
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    for pattern, rewrite in BLANKS:
        text = tf.strings.regex_replace(text, pattern, rewrite)
    words = _split(tf.strings.split(text), EDGES)
    whole = tf.strings.regex_full_match(words.flat_values, f"(?i){WHOLE}")
    return _split(words, WITHIN_WORDS, whole)


def _split(words, rules, whole=None):
    """Splits words (B, T) at the blanks that rules insert, except where `whole` is true."""
    parts = words.flat_values
    for pattern, rewrite in rules:
        parts = tf.strings.regex_replace(parts, pattern, rewrite)
    if whole is not None:
        parts = tf.where(whole, words.flat_values, parts)
    return words.with_flat_values(tf.strings.split(parts)).merge_dims(1, 2)
