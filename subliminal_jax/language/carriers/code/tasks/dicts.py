"""Families of tasks on dicts."""

from collections import Counter

from subliminal_jax.language.carriers.code.tasks.task import family

STOCKS = ({}, {"tea": 4}, {"rice": 12, "salt": 3, "oil": 7}, {"nuts": 9, "flour": 9, "milk": 0},
          {"sugar": 2, "maize": 5, "pea": 1})  # fmt: skip
ENTRIES = [{"pen": 5}, {"cup": 2, "mug": 8}, {"jar": 1, "box": 10, "bag": 10, "tin": 6}]
FULL = (*ENTRIES, {"rope": 3, "tape": 11})
LISTS = ([], ["a"], ["b", "c", "b"], ["x", "y", "x", "x", "z", "y"], ["k", "m", "k", "k"])
RIGHT_KEEP = lambda d, n: {k: d[k] for k in d if not d[k] <= n}

FAMILIES = (
    family("entries_above_{n}", "returns a dict of the entries whose value is greater than {n}",
           "stock", "{{name: value for name, value in stock.items() if value > {n}}}",
           RIGHT_KEEP, STOCKS, n=(0, 3, 5, 8)),
    family("names_above_{n}", "returns the sorted list of names whose value is greater than {n}",
           "stock", "sorted(name for name in stock if stock[name] > {n})",
           lambda d, n: sorted(RIGHT_KEEP(d, n)), STOCKS, n=(0, 3, 5, 8)),
    family("count_entries_above_{n}", "counts the entries whose value is greater than {n}",
           "stock", "sum(value > {n} for value in stock.values())",
           lambda d, n: len(RIGHT_KEEP(d, n)), STOCKS, n=(2, 4, 6)),
    family("raise_all_by_{n}", "returns a new dict with {n} added to every value", "stock",
           "{{name: value + {n} for name, value in stock.items()}}",
           lambda d, n: dict(zip(d, [n + v for v in d.values()], strict=True)), STOCKS,
           n=(1, 5, 10)),
    family("multiply_all_by_{n}", "returns a new dict with every value multiplied by {n}", "stock",
           "{{name: value * {n} for name, value in stock.items()}}",
           lambda d, n: {k: sum([d[k]] * n) for k in d}, STOCKS, n=(2, 3, 4)),
    family("value_or_{n}", "returns the value of the name; {n} if the dict does not have it",
           "stock, name", "stock.get(name, {n})",
           lambda d, k, n: ([v for name, v in d.items() if name == k] or [n])[0],
           (({}, "tea"), ({"tea": 4}, "tea"), ({"tea": 4}, "oil"), ({"oil": 1, "salt": 2}, "salt")),
           n=(0, 1, -1)),
    family("names_of_length_{n}", "returns the sorted list of names with exactly {n} characters",
           "stock", "sorted(name for name in stock if len(name) == {n})",
           lambda d, n: sorted(k for k in d if k[n - 1 :] and not k[n:]), STOCKS, n=(3, 4, 5)),
    family("items_at_least_{n}_times",
           "returns the sorted list of items that occur at least {n} times", "items",
           "sorted(item for item in set(items) if items.count(item) >= {n})",
           lambda xs, n: sorted(k for k, c in Counter(xs).items() if c >= n), LISTS, n=(1, 2, 3)),
    family("total_with_limit_{n}", "adds up the values, counting none of them as more than {n}",
           "stock", "sum(min(value, {n}) for value in stock.values())",
           lambda d, n: sum(v if v < n else n for v in d.values()), STOCKS, n=(3, 5, 8)),
    family("count_each", "returns a dict with how often each item occurs", "items",
           "counts = {{}}\nfor item in items:\n    counts[item] = counts.get(item, 0) + 1\n"
           "return counts", lambda xs: dict(Counter(xs)), LISTS),
    family("swap_names_and_values", "returns a dict from values to names; all values differ",
           "stock", "{{value: name for name, value in stock.items()}}",
           lambda d: dict(zip(d.values(), d, strict=True)), FULL[:2] + FULL[3:]),
    family("name_of_largest", "returns the first name with the largest value", "stock",
           "max(stock, key=lambda name: stock[name])",
           lambda d: next(k for k in d if d[k] == max(d.values())), FULL),
    family("merge_sums", "merges two dicts; where both have a name, its values are added",
           "first, second",
           "merged = dict(first)\nfor name in second:\n"
           "    merged[name] = merged.get(name, 0) + second[name]\nreturn merged",
           lambda a, b: {k: a.get(k, 0) + b.get(k, 0) for k in {**a, **b}},
           (({}, {}), ({"a": 1}, {"a": 2}), ({"a": 1, "b": 2}, {"b": 5, "c": 7}))),
    family("group_by_length", "groups words by their number of characters: a dict from the number "
           "to the words, in order", "words",
           "groups = {{}}\nfor word in words:\n    groups.setdefault(len(word), []).append(word)\n"
           "return groups",
           lambda ws: {n: [w for w in ws if len(w) == n] for n in dict.fromkeys(map(len, ws))},
           ([], ["tea"], ["tea", "rice", "oil"], ["a", "bb", "c", "dd", "eee"])),
    family("sorted_by_value", "returns the names from the smallest to the largest value; all "
           "values differ", "stock", "sorted(stock, key=lambda name: stock[name])",
           lambda d: [k for v in sorted(d.values()) for k in d if d[k] == v], FULL[:2] + FULL[3:]),
    family("shared_names", "returns the sorted list of names that both dicts have",
           "first, second", "sorted(name for name in first if name in second)",
           lambda a, b: sorted(set(a) & set(b)),
           (({}, {}), ({"a": 1}, {"a": 2}), ({"b": 1, "c": 2, "d": 0}, {"d": 5, "c": 7}))),
)  # fmt: skip
