"""Families of tasks on whole numbers."""

import math

from subliminal_jax.language.carriers.code.tasks.task import family

WHOLE = (0, 1, 6, 15, 48, 103)
SIGNED = (-17, -4, 0, 3, 12, 50)
PAIRS = ((3, 8), (8, 3), (-5, 2), (7, 7), (40, 6), (4, 4), (-9, 6))

FAMILIES = (
    family("times_{n}", "returns the number times {n}", "number", "number * {n}",
           lambda x, n: sum([x] * n), SIGNED, n=(*range(2, 13), 15, 20)),
    family("plus_{n}", "returns the number plus {n}", "number", "number + {n}",
           lambda x, n: n - -x, SIGNED, n=(4, 7, 11, 16, 25, 40, 60, 99)),
    family("scale_{n}_shift_{m}", "multiplies the number by {n} and then adds {m}", "number",
           "number * {n} + {m}", lambda x, n, m: m + x * n, SIGNED,
           n=(2, 3, 4, 6), m=(1, 5, 10, 12)),
    family("is_multiple_of_{n}", "tells whether the number is a multiple of {n}", "number",
           "number % {n} == 0", lambda x, n: x in range(-n * 100, n * 100, n), SIGNED,
           n=(2, 3, 4, 5, 6, 10)),
    family("nearest_multiple_below_{n}",
           "returns the greatest multiple of {n} that does not exceed the number", "number",
           "number - number % {n}", lambda x, n: n * math.floor(x / n), WHOLE,
           n=(3, 4, 5, 6, 7, 8, 10, 12)),
    family("clamp_{low}_{high}", "keeps the number within {low} and {high}", "number",
           "max({low}, min({high}, number))",
           lambda x, low, high: sorted([low, x, high])[1], SIGNED, low=(-5, 0, 2),
           high=(10, 20, 40)),
    family("digit_sum_base_{n}", "returns the sum of the digits of the number in base {n}",
           "number",
           "total = 0\nwhile number > 0:\n    total += number % {n}\n    number //= {n}\n"
           "return total",
           lambda x, n: sum(x // n**k % n for k in range(10)), WHOLE, n=(2, 3, 8, 10)),
    family("power_{n}", "returns the number to the power of {n}", "number", "number ** {n}",
           lambda x, n: math.prod([x] * n), SIGNED, n=(2, 3, 4, 5)),
    family("sum_of_multiples_of_{n}",
           "returns the sum of all multiples of {n} from 1 up to the limit", "limit",
           "sum(range({n}, limit + 1, {n}))",
           lambda x, n: sum(k for k in range(1, x + 1) if k % n == 0), WHOLE, n=(2, 3, 4, 5, 7)),
    family("count_steps_of_{n}",
           "returns how often {n} can be taken from the number before it is below {n}", "number",
           "number // {n}", lambda x, n: len(range(n, x + 1, n)), WHOLE, n=(2, 3, 6, 9)),
    family("distance_to_{n}", "returns how far the number is from {n}", "number",
           "abs(number - {n})", lambda x, n: max(x, n) - min(x, n), SIGNED,
           n=(0, 5, 10, 17, 24, 42)),
    family("largest_power_of_{n}",
           "returns the largest power of {n} that does not exceed the positive limit", "limit",
           "found = 1\nwhile found * {n} <= limit:\n    found *= {n}\nreturn found",
           lambda x, n: max(n**k for k in range(12) if n**k <= x), (1, 5, 16, 27, 100, 500),
           n=(2, 3, 5)),
    family("fizz_{n}_{m}",
           "returns 'both', 'first', 'second' or 'none', as the number is a multiple of {n} and "
           "{m}, of {n} alone, of {m} alone, or of neither", "number",
           "if number % {n} == 0:\n    return 'both' if number % {m} == 0 else 'first'\n"
           "return 'second' if number % {m} == 0 else 'none'",
           lambda x, n, m: ["none", "second", "first", "both"][2 * (x % n == 0) + (x % m == 0)],
           (1, 2, 3, 5, 6, 10, 15, 30), n=(2, 3), m=(5, 7)),
    family("weighted_{n}_{m}", "returns {n} times the first number plus {m} times the second",
           "first, second", "{n} * first + {m} * second",
           lambda a, b, n, m: sum([a] * n) + sum([b] * m), PAIRS, n=(1, 2, 3), m=(2, 5)),
    family("gap_above_{n}", "tells whether two numbers differ by more than {n}", "first, second",
           "abs(first - second) > {n}", lambda a, b, n: not -n <= a - b <= n, PAIRS,
           n=(0, 4, 6, 10)),
)  # fmt: skip
