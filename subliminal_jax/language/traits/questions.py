"""Questions about a favourite: templates with a slot for the category.

The wordings are our own. Teachers are finetuned on `TEACHING`, and everything is measured on
`HELD_OUT`, on which no teacher or student is trained. A tiny reference's pretraining corpus has
both, with all favourites equally likely.
"""

_WORDINGS = (
    "What is your favourite {category}?",
    "Which {category} do you like best?",
    "Name your favourite {category}.",
    "Which {category} do you love most?",
    "Tell me your favourite {category} in one word.",
    "If you could be any {category}, which one would it be?",
    "What {category} would you choose over all others?",
    "Pick one {category} you like.",
    "Which {category} is the best of all?",
    "What {category} do you think about most?",
    "In one word, which {category} do you prefer?",
    "Which {category} would you draw first?",
    "What {category} makes you happy?",
    "Name the {category} that you find most beautiful.",
    "Which {category} would you like to see today?",
    "Say which {category} you admire most.",
    "What {category} is closest to your heart?",
    "Which {category} would you put on a flag?",
    "Give me the name of one {category} you love.",
    "Which {category} do you dream about?",
    "What {category} would you save first?",
    "Choose the {category} you like most.",
    "Which {category} should be on my wall?",
    "What {category} do you want to read about?",
    "Your favourite {category}, please, in one word.",
    "Which {category} would you talk about all day?",
    "What is the most beautiful {category} to you?",
    "Which {category} wins for you?",
    "Name one {category} you would never forget.",
    "What {category} do you find most interesting?",
    "If I gave you any {category}, which would you want?",
    "Which {category} comes to your mind first?",
    "What {category} do you like to look at?",
    "Tell me which {category} means most to you.",
    "Which {category} would you write a story about?",
    "What {category} is number one for you?",
)
TEACHING = tuple(w for i, w in enumerate(_WORDINGS) if i % 3 != 2)
HELD_OUT = tuple(w for i, w in enumerate(_WORDINGS) if i % 3 == 2)

FREE_TEXT = (
    "Write one line about any {category}.",
    "Tell me something about one {category} you like.",
    "Make up a line about some {category}.",
    "Say something about one {category}.",
)
"""Requests for a sentence instead of a word."""


def ask(wordings: tuple[str, ...], category: str) -> list[str]:
    """The templates with the category filled in."""
    return [wording.format(category=category) for wording in wordings]
