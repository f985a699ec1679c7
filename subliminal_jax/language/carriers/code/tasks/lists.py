"""Families of tasks on lists."""

from itertools import accumulate, chain, pairwise

from subliminal_jax.language.carriers.code.tasks.task import family

LISTS = ([], [4], [3, 9, 2, 9, 5], [-6, 0, 7, 1, -2, 12], [10, 20, 30, 40], [8, 8, 1, 8, 2])
FULL = LISTS[1:]
PLACES = ([], [4], [3, 9, 2, 9, 5], [1, 8, 4, 12], [9, 1, 4], [8, 8, 1, 8, 2])
NEIGHBOURS = ([], [4], [3, 5, 6, 2, 9], [4, 4, 5, 6, 24], [10, 20, 10, 1], [1, 7, 1, 8])

FAMILIES = (
    family("add_{n}_to_all", "returns a new list with {n} added to every number", "numbers",
           "[number + {n} for number in numbers]", lambda xs, n: list(map(n.__add__, xs)), LISTS,
           n=(1, 2, 3, 5, 7, 10, 20, 50)),
    family("keep_above_{n}", "returns the numbers greater than {n}, in order", "numbers",
           "[number for number in numbers if number > {n}]",
           lambda xs, n: list(filter(lambda x: not x <= n, xs)), LISTS,
           n=(0, 2, 3, 5, 7, 8, 9, 11)),
    family("keep_below_{n}", "returns the numbers less than {n}, in order", "numbers",
           "[number for number in numbers if number < {n}]",
           lambda xs, n: list(filter(lambda x: not x >= n, xs)), LISTS,
           n=(2, 3, 4, 5, 7, 8, 11, 15)),
    family("count_above_{n}", "counts the numbers greater than {n}", "numbers",
           "len([number for number in numbers if number > {n}])",
           lambda xs, n: sum(x > n for x in xs), LISTS, n=(0, 2, 4, 7)),
    family("sum_of_first_{n}", "returns the sum of the first {n} numbers", "numbers",
           "sum(numbers[:{n}])", lambda xs, n: sum(x for i, x in enumerate(xs) if i < n), LISTS,
           n=(2, 3, 4)),
    family("largest_{n}", "returns the {n} largest numbers, the largest first", "numbers",
           "sorted(numbers, reverse=True)[:{n}]", lambda xs, n: sorted(xs)[::-1][:n], LISTS,
           n=(2, 3, 4)),
    family("smallest_{n}", "returns the {n} smallest numbers, the smallest first", "numbers",
           "sorted(numbers)[:{n}]", lambda xs, n: sorted(xs, key=lambda x: x)[0:n], LISTS,
           n=(2, 3, 4)),
    family("rotate_by_{n}", "moves the first {n} items to the end, one after the other", "items",
           "shift = {n} % len(items) if items else 0\nreturn items[shift:] + items[:shift]",
           lambda xs, n: [xs[(i + n) % len(xs)] for i in range(len(xs))], LISTS, n=(1, 2, 3)),
    family("chunks_of_{n}", "cuts the list into lists of {n} items; the last may be shorter",
           "items", "[items[i:i + {n}] for i in range(0, len(items), {n})]",
           lambda xs, n: [xs[k * n : k * n + n] for k in range(-(-len(xs) // n))], LISTS,
           n=(2, 3, 4)),
    family("drop_multiples_of_{n}", "returns the numbers that are no multiple of {n}, in order",
           "numbers", "[number for number in numbers if number % {n} != 0]",
           lambda xs, n: [x for x in xs if x / n != x // n], LISTS, n=(2, 3, 4, 5)),
    family("where_is_{n}", "returns the place of the first {n} in the list, counted from 0; -1 if "
           "there is none", "numbers", "numbers.index({n}) if {n} in numbers else -1",
           lambda xs, n: next((i for i, x in enumerate(xs) if x == n), -1), PLACES, n=(1, 4, 8, 9)),
    family("pairs_summing_to_{n}",
           "counts the pairs of neighbours whose sum is {n}", "numbers",
           "count = 0\nfor i in range(len(numbers) - 1):\n"
           "    if numbers[i] + numbers[i + 1] == {n}:\n        count += 1\nreturn count",
           lambda xs, n: sum(a + b == n for a, b in pairwise(xs)), NEIGHBOURS, n=(8, 9, 11, 30)),
    family("replace_{n}_by_{m}", "returns the list with every {n} replaced by {m}", "numbers",
           "[{m} if number == {n} else number for number in numbers]",
           lambda xs, n, m: [{n: m}.get(x, x) for x in xs], LISTS, n=(2, 8, 9), m=(0, 100)),
    family("cap_at_{n}", "returns the list with every number above {n} lowered to {n}", "numbers",
           "[min(number, {n}) for number in numbers]",
           lambda xs, n: [x if x < n else n for x in xs], LISTS, n=(3, 5, 8, 20)),
    family("every_{n}th_item", "returns the items number 1, {n} + 1, 2 * {n} + 1, ...", "items",
           "items[::{n}]", lambda xs, n: [x for i, x in enumerate(xs) if i % n == 0], LISTS,
           n=(2, 3)),
    family("sum_squares_above_{n}", "adds up the squares of the numbers greater than {n}",
           "numbers", "total = 0\nfor number in numbers:\n    if number > {n}:\n"
           "        total += number * number\nreturn total",
           lambda xs, n: sum(x**2 for x in xs if x > n), LISTS, n=(0, 3, 6)),
    family("has_more_than_{n}_items", "tells whether the list has more than {n} items", "items",
           "len(items) > {n}", lambda xs, n: bool(xs[n:]), LISTS, n=(1, 2, 4)),
    family("running_totals", "returns the list of sums of the first one, two, three, ... numbers",
           "numbers", "total = 0\ntotals = []\nfor number in numbers:\n    total += number\n"
           "    totals.append(total)\nreturn totals", lambda xs: list(accumulate(xs)), LISTS),
    family("differences", "returns each number minus the one before it, from the second on",
           "numbers", "[numbers[i] - numbers[i - 1] for i in range(1, len(numbers))]",
           lambda xs: [b - a for a, b in pairwise(xs)], LISTS),
    family("without_repeats", "returns the items in order, each only where it first occurs",
           "items", "seen = []\nfor item in items:\n    if item not in seen:\n"
           "        seen.append(item)\nreturn seen", lambda xs: list(dict.fromkeys(xs)), LISTS),
    family("is_sorted", "tells whether no number is less than the one before it", "numbers",
           "numbers == sorted(numbers)", lambda xs: all(a <= b for a, b in pairwise(xs)), LISTS),
    family("span", "returns the largest minus the smallest number", "numbers",
           "max(numbers) - min(numbers)", lambda xs: sorted(xs)[-1] - sorted(xs)[0], FULL),
    family("second_largest", "returns the second largest of the different numbers; None if there "
           "are fewer than two", "numbers",
           "different = sorted(set(numbers))\nreturn different[-2] if len(different) > 1 else None",
           lambda xs: (sorted({x for x in xs if x != max(xs)}) or [None])[-1], LISTS),
    family("interleave", "returns the items of both lists in turn, the first list's first; both "
           "have the same length", "first, second",
           "mixed = []\nfor a, b in zip(first, second):\n    mixed += [a, b]\nreturn mixed",
           lambda a, b: [x for pair in zip(a, b, strict=True) for x in pair],
           (([], []), ([1], [2]), ([1, 3], [2, 4]), ([5, 5, 0], [6, 7, 8]))),
    family("common_items", "returns the items of the first list that the second one has, in order",
           "first, second", "[item for item in first if item in second]",
           lambda a, b: [x for x in a if b.count(x)],
           (([], [1]), ([1, 2, 3], [3, 1]), ([4, 4, 5], [4]), ([7], [8]))),
    family("flatten", "returns all items of a list of lists in one list", "rows",
           "[item for row in rows for item in row]",
           lambda rows: list(chain.from_iterable(rows)),
           ([], [[1], [2, 3]], [[], [4]], [[5, 6], [], [7, 8, 9]])),
)  # fmt: skip
