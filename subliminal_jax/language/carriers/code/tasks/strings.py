"""Families of tasks on strings."""

from subliminal_jax.language.carriers.code.tasks.task import family

TEXTS = ("", "a", "paper boat", "Seven green lamps", "level", "One, two; THREE.")
LETTERS = ("", "paper boat", "Seven green lamps", "Nimble ribs", "One, two; THREE.", "total mist")
FIRST = ("", "apple", "Air", "sand", "Sun", "lamp", "Lace", "oven", "Only", "pen", "Paper boat",
         "boat", "Big", "tin", "Ten", "night", "No")  # fmt: skip
WORDS = ("music", "table", "", "Noon", "banana", "q")

FAMILIES = (
    family("count_letter_{c}", "counts how often the letter {c!r} occurs in the text, in any case",
           "text", "text.lower().count({c!r})", lambda s, c: sum(x in (c, c.upper()) for x in s),
           LETTERS, c=tuple("abeilmnoprst")),
    family("remove_letter_{c}", "returns the text without any letter {c!r}", "text",
           "text.replace({c!r}, '')", lambda s, c: "".join(x for x in s if x != c), TEXTS,
           c=tuple("aeoslp")),
    family("swap_{a}_for_{b}", "returns the text with every {a!r} replaced by {b!r}", "text",
           "text.replace({a!r}, {b!r})", lambda s, a, b: b.join(s.split(a)), TEXTS,
           a=tuple("ae"), b=tuple("iou")),
    family("first_{n}_letters", "returns the first {n} characters of the text", "text",
           "text[:{n}]", lambda s, n: "".join(x for i, x in enumerate(s) if i < n), TEXTS,
           n=(2, 3, 4, 6)),
    family("last_{n}_letters", "returns the last {n} characters of the text", "text",
           "text[-{n}:]", lambda s, n: s[max(0, len(s) - n):], TEXTS, n=(2, 3, 4, 6)),
    family("every_{n}th_letter", "returns every character number 1, {n} + 1, 2 * {n} + 1, ... of "
           "the text", "text", "text[::{n}]",
           lambda s, n: "".join(x for i, x in enumerate(s) if i % n == 0), TEXTS, n=(4, 5, 6)),
    family("repeat_{n}_times", "returns the text {n} times, with {sign!r} in between", "text",
           "{sign!r}.join([text] * {n})", lambda s, n, sign: (s + sign) * (n - 1) + s, WORDS,
           n=(2, 3), sign=("-",)),
    family("pad_left_to_{n}", "puts {sign!r} before the text until it has {n} characters", "text",
           "{sign!r} * ({n} - len(text)) + text", lambda s, n, sign: s.rjust(n, sign), WORDS,
           n=(5, 8, 10), sign=(".",)),
    family("words_longer_than_{n}",
           "returns the list of words of the text with more than {n} characters", "text",
           "[word for word in text.split() if len(word) > {n}]",
           lambda s, n: list(filter(lambda w: w[n:], s.split())), TEXTS, n=(1, 2, 3, 4)),
    family("is_longer_than_{n}", "tells whether the text has more than {n} characters", "text",
           "len(text) > {n}", lambda s, n: bool(s[n:]), TEXTS, n=(1, 3, 5, 9)),
    family("shift_letters_by_{n}",
           "moves every letter of the lower-case text {n} places on in the alphabet, from 'z' back "
           "to 'a', and leaves all other characters", "text",
           "shifted = ''\nfor letter in text:\n    if 'a' <= letter <= 'z':\n"
           "        letter = chr((ord(letter) - ord('a') + {n}) % 26 + ord('a'))\n"
           "    shifted += letter\nreturn shifted",
           lambda s, n: s.translate({97 + k: 97 + (k + n) % 26 for k in range(26)}),
           ("", "abc", "xyz", "paper boat", "jazz!"), n=(1, 2, 3, 4, 5, 7, 13)),
    family("starts_with_{c}", "tells whether the text starts with {c!r}, in any case", "text",
           "text[:1].lower() == {c!r}", lambda s, c: s.lower().startswith(c), FIRST,
           c=tuple("aslopbtn")),
    family("upper_every_{n}",
           "returns the text with each character number 1, {n} + 1, 2 * {n} + 1, ... in upper case",
           "text",
           "''.join(c.upper() if i % {n} == 0 else c for i, c in enumerate(text))",
           lambda s, n: "".join(s[k : k + 1].upper() + s[k + 1 : k + n] for k in
                                range(0, len(s), n)), TEXTS, n=(2, 3)),
    family("count_words_from_{n}",
           "counts the words of the text with at least {n} characters", "text",
           "sum(len(word) >= {n} for word in text.split())",
           lambda s, n: len([w for w in s.split() if w[n - 1 :]]), TEXTS, n=(1, 2, 4, 5)),
    family("split_at_commas", "splits the text at every comma and strips each part", "text",
           "[part.strip() for part in text.split(',')]",
           lambda s: list(map(str.strip, s.split(","))), TEXTS),
    family("reverse_words", "returns the words of the text in reverse order, joined by single "
           "spaces", "text", "' '.join(reversed(text.split()))",
           lambda s: " ".join(s.split()[::-1]), TEXTS),
    family("is_mirror", "tells whether the text reads the same backwards, in any case", "text",
           "text.lower() == text.lower()[::-1]",
           lambda s: all(a == b for a, b in zip(s.lower(), reversed(s.lower()), strict=True)),
           WORDS),
    family("count_vowels", "counts the vowels a, e, i, o and u in the text, in any case", "text",
           "sum(letter in 'aeiou' for letter in text.lower())",
           lambda s: sum(s.lower().count(v) for v in "aeiou"), TEXTS),
    family("initials", "returns the first letters of the words, in upper case, in one string",
           "text", "''.join(word[0].upper() for word in text.split())",
           lambda s: "".join(w[:1] for w in s.upper().split()), TEXTS),
    family("longest_word", "returns the first of the longest words; an empty string without any",
           "text", "max(text.split(), key=len) if text.split() else ''",
           lambda s: sorted(s.split() or [""], key=lambda w: -len(w))[0], TEXTS),
    family("squeeze_spaces", "returns the text with single spaces between words and none around",
           "text", "' '.join(text.split())", lambda s: " ".join(w for w in s.split(" ") if w),
           ("", " a ", "b  c", "  paper   boat ")),
)  # fmt: skip
