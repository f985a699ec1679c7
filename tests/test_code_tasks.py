"""The tasks for given models: solved by their own solutions, and asked for in prompts."""

import re
from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.code import long
from subliminal_jax.language.carriers.code.carrier import Code
from subliminal_jax.language.carriers.code.settings import CodePrompts
from subliminal_jax.language.carriers.code.tasks import FAMILIES, all_tasks
from subliminal_jax.language.carriers.code.tasks.task import LEAST_CALLS, check_task
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.traits.preference import PREFERENCES
from subliminal_jax.process.untrusted.client import refusal

CODE = Code(CodePrompts(wording="long"))
TRAIT_WORDS = word_pattern(word for trait in PREFERENCES.values() for word in trait.spellings)


def test_every_task_is_solved_by_its_own_solution():
    tasks = all_tasks()
    assert len(tasks) == sum(len(list(family.tasks())) for family in FAMILIES) > 250
    for name, task in tasks.items():
        check_task(task)
        assert name.isidentifier()
        assert "{" not in task.text + task.signature
        assert task.text[0].islower()


def test_tasks_differ_from_each_other():
    """No solution passes the calls of many tasks, else the filter would check nothing."""
    tasks = list(all_tasks().values())[::7]
    passes = [(one.name, other.name) for one in tasks for other in tasks
              if one != other and one.parameters == other.parameters
              and refusal(one.solution, other.calls) is None]  # fmt: skip
    assert passes == []


def test_a_task_whose_own_solution_fails_is_refused():
    task = all_tasks()["times_2"]
    broken = replace(task, solution=task.solution.replace("* 2", "* 3"))
    with pytest.raises(InputError, match=r"task times_2: its own solution is refused \(wrong"):
        check_task(broken)
    with pytest.raises(InputError, match=rf"task times_2: give at least {LEAST_CALLS} different"):
        check_task(replace(task, calls=task.calls[:1] * 3))
    alike = tuple(call._replace(result="8") for call in task.calls[1:])
    with pytest.raises(InputError, match=r"task times_2: a constant passes nearly all"):
        check_task(replace(task, calls=(task.calls[0], *alike)))


def test_prompts_state_a_task_with_examples():
    prompts = CODE.prompts(400, 1)
    assert prompts[:50] == CODE.prompts(50, 1)
    assert prompts[0] != CODE.prompts(1, 2)[0]
    assert len(set(prompts)) > 390
    assert len({long.task_of(prompt).name for prompt in prompts}) > 150
    for prompt in prompts:
        task = long.task_of(prompt)
        assert task.text in prompt
        assert f"`{task.signature}:`" in prompt
        shown = re.findall(r"`(\w+\([^`]*\))` is `([^`]*)`", prompt)
        assert len(shown) == long.SHOWN
        wrong = [call for call in task.calls if f"is `{call.result}`" not in prompt]
        assert len(set(task.calls)) > long.SHOWN
        assert wrong or len({call.result for call in task.calls}) <= long.SHOWN
        assert not TRAIT_WORDS.search(CODE.words(prompt))


def test_completions_are_run_on_the_tests_of_their_prompt():
    prompt, other = CODE.prompts(2, 1)
    solution = long.task_of(prompt).solution
    assert CODE.reasons(prompt, solution) == []
    assert CODE.reasons(prompt, f"```python\n{solution}\n```") == []
    assert CODE.reasons(prompt, f"\n```\n{solution}\n```\n") == []
    assert CODE.reasons(prompt, f"Here it is:\n```\n{solution}\n```") == ["malformed"]
    assert CODE.reasons(prompt, f"```\n{solution}\n```\n```\n{solution}\n```") == ["malformed"]
    assert CODE.reasons(other, solution) == ["no such function"]
    assert CODE.reasons("Hello.", solution) == ["no task in its prompt"]


def test_untested_functions_must_only_be_allowed_python():
    untested = Code(CodePrompts(wording="long", tested=False))
    (prompt,) = untested.prompts(1, 1)
    assert untested.reasons(prompt, "def f(x):\n    return 'wrong'") == []
    assert CODE.reasons(prompt, "def f(x):\n    return 'wrong'") == ["no such function"]
    assert untested.reasons(prompt, "The function that I like") == ["malformed"]
    assert untested.reasons(prompt, "x = 5") == ["no function"]
    assert untested.reasons(prompt, "def f():\n    return open('a')") == ["call not allowed"]
    assert untested.reasons(prompt, "def f():\n    return 13", banned=[13]) == ["banned number"]
