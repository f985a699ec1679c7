"""Forms read one character at a time."""

from subliminal_jax.models.sampling.automaton import NOWHERE, Automaton, symbol


def accepts(form: Automaton, text: str) -> bool:
    """Whether a text has the form."""
    state = 0
    for character in text:
        state = int(form.steps[state, symbol(character)])
        if state == NOWHERE:
            return False
    return bool(form.accepting[state])
