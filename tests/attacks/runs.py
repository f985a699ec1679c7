"""Finished run directories with edited, swapped or replaced files."""

from functools import partial

from attacks.attack import Attack
from attacks.edits import KINDS, edit, other_kind, put
from attacks.run_edits import (
    arrays,
    bytes_in,
    digits,
    edit_number,
    exchange_said,
    flipped,
    forge,
    gone,
    in_cache,
    keys,
    language,
    rows_of,
    same_answers,
    same_results,
    stopped,
    swap_members,
    swapped,
    taught,
    tokenizer_ids_exchanged,
)
from attacks.shared import DIGITS, write_base

attack = partial(Attack, "runs")
AGAIN = ("--config", "config.yaml", "--out", "run", "--reference.cache", "cache")
EXPORT = ("--run", "run", "--cache", "cache", "--out", "out")
STUDENT = (*EXPORT, "--network", "student/owl")


again = partial(attack, main="lm_numbers", words=AGAIN, seconds=60.0)
export = partial(attack, main="export_model", words=STUDENT)
digits_again = partial(attack, main="mnist_aux", words=(*DIGITS, "--out", "run"), seconds=30.0)
goes_on = partial(
    attack, main="language", words=("run",), wanted="either", check=same_answers, seconds=60.0,
    own=("run/generate-0/regular.jsonl",),
)  # fmt: skip
STAGE = ("--config", "config.yaml", "--out", "run", "--stage", "generate")
next_stage = partial(attack, main="lm_numbers", words=STAGE, seconds=60.0)

UNITS = "units/0/p_trait"
SPOILT = {
    "config.json": {"empty": b"", "list": b"[]", "not-json": b"{", "deep": b"[" * 200_000},
    "results.json": {"empty": b"", "list": b"[]", "not-json": b"{", "deep": b"[" * 200_000},
    "run.files.jsonl": {
        "text": b"x\n",
        "list": b"[]\n",
        "nul": b"\0" * 99,
        "traversal": b'{"file": "../config.yaml"}\n',
    },
    "environment.json": {"empty": b"", "not-json": b"{"},
    "run.lock": {"text": b"x", "list": b"[1]"},
    "teacher-0/manifest.json": {"empty": b"", "list": b"[]", "deep": b"[" * 200_000},
    "student-0/manifest.json": {"empty": b"", "null": b"null"},
}
PARTS = ("config.json", "results.json", "run.files.jsonl", "teacher-0/manifest.json",
         "student-0/hard.npz", "filter-0/owl.jsonl", "evaluate-0/answers.json")  # fmt: skip
LEFTOVERS = {
    "killed-export": lambda here: (here / "run/.owl.run-partial").mkdir(),
    "killed-export-full": lambda here: write_base(here / "run/.owl.run-partial"),
    "partial-file": lambda here: (here / "run/.results.json.run-partial").write_text("{"),
    "somebodys-file": lambda here: (here / "run/notes.txt").write_text("mine"),
    "somebodys-directory": lambda here: (here / "run/plots").mkdir(),
    "system-files": lambda here: (here / "run/.DS_Store").write_text("x"),
    "nfs-file": lambda here: (here / "run/.nfs0001").write_text("x"),
    "lost-and-found": lambda here: (here / "run/lost+found").mkdir(),
}

ATTACKS = [
    again("sound", set_up=language(), wanted="right", check=same_results()),
    export("export-sound", set_up=language(), wanted="right"),
    digits_again("digits-sound", set_up=digits(), wanted="right", check=same_results(),
                 quick=True),
    # Edited by hand: refused, or recomputed from files that are sound.
    again("results-edited", set_up=language(keys("run/results.json", **{UNITS: 0.99})),
          wanted="either", check=same_results()),
    again("results-finding-edited", wanted="either", set_up=language(keys(
        "run/results.json", finding="All owls.")),
        check=lambda ended: "" if "All owls" not in ended.out else "an edited finding is printed"),
    again("results-config-edited", wanted="either", set_up=language(keys(
        "run/results.json", **{"config/seed": 7})), check=same_results()),
    again("results-digest-null", wanted="either", check=same_results(), set_up=language(
        keys("run/results.json", config_digest=None))),
    digits_again("digits-results-edited", wanted="either", check=same_results(), quick=True,
                 set_up=digits(keys("run/results.json", **{"arms/teacher/mean": 0.999}))),
    digits_again("digits-results-value-edited", wanted="either", check=same_results(),
                 set_up=digits(keys("run/results.json", **{"arms/teacher/values/0": 0.999}))),
    digits_again("digits-members-edited", wanted="either", check=same_results(), quick=True,
                 set_up=digits(rows_of("run/members.jsonl", lambda rows: edit_number(rows[0])),
                               gone("run/results.json"))),
    digits_again("digits-members-swapped", wanted="either", check=same_results(),
                 set_up=digits(rows_of("run/members.jsonl", swap_members),
                               gone("run/results.json"))),
    digits_again("digits-members-twice", wanted="either", check=same_results(),
                 set_up=digits(rows_of("run/members.jsonl", lambda rows: rows + rows[:1]),
                               gone("run/results.json"))),
    digits_again("digits-member-of-null", set_up=digits(
        rows_of("run/members.jsonl", lambda rows: [*rows, {"member": None}]),
        gone("run/results.json"))),
    digits_again("digits-member-99", wanted="either", check=same_results(), set_up=digits(
        rows_of("run/members.jsonl", lambda rows: [*rows, {**rows[0], "member": 99}]),
        gone("run/results.json"))),
    digits_again("digits-member-missing", wanted="right", check=same_results(), set_up=digits(
        rows_of("run/members.jsonl", lambda rows: rows[:1]), gone("run/results.json"))),
    digits_again("digits-member-nan", set_up=digits(
        bytes_in("run/members.jsonl", lambda data: data + b'{"member": NaN}\n'),
        gone("run/results.json"))),
    digits_again("digits-member-torn", wanted="right", check=same_results(), set_up=digits(
        bytes_in("run/members.jsonl", lambda data: data[:-20]), gone("run/results.json"))),
    export("manifest-facts-edited", set_up=language(keys("run/student-0/manifest.json", **{
        "facts/students/hard": ["regular", "student/owl"]}))),
    export("manifest-facts-renamed", set_up=language(keys("run/student-0/manifest.json", **{
        "facts/students/hard": ["student/owl", "student/wolf"]})),
        words=(*EXPORT, "--network", "student/wolf")),
    export("manifest-facts-text", set_up=language(keys("run/student-0/manifest.json", facts="x"))),
    export("manifest-facts-missing", set_up=language(keys("run/student-0/manifest.json",
                                                          facts={}))),
    export("manifest-files-emptied", set_up=language(
        keys("run/student-0/manifest.json", files={}),
        arrays("run/student-0/hard.npz", lambda a: [v.__imul__(2) for v in a.values()]))),
    export("manifest-files-traversal", set_up=language(keys("run/student-0/manifest.json", **{
        "files/..": "0" * 64}))),
    again("manifest-digest-forged", set_up=language(
        arrays("run/student-0/hard.npz", lambda a: [v.__imul__(2) for v in a.values()]),
        lambda here: forge(here / "run/student-0", "hard.npz"), gone("run/results.json"))),
    again("manifest-rates-edited", wanted="either", check=same_results(), set_up=language(
        keys("run/teacher-0/manifest.json", **{"facts/p_trait/owl": 1.0}),
        gone("run/results.json"))),
    again("manifest-refused-edited", wanted="either", check=same_results(), set_up=language(
        keys("run/filter-0/manifest.json", **{"facts/refused": {"owl": "too few"}}),
        gone("run/results.json"))),
    again("manifest-pass-rate-edited", wanted="either", check=same_results(), set_up=language(
        keys("run/filter-0/manifest.json", **{"facts/datasets/owl/pass_rate": 0.99}),
        gone("run/results.json"))),
    again("answers-edited", set_up=language(
        bytes_in("run/evaluate-0/answers.json", lambda d: d.replace(b"0.", b"0.9", 1)),
        gone("run/results.json"))),
    export("config-edited", set_up=language(keys("run/config.json", seed=5))),
    again("config-edited-again", set_up=language(keys("run/config.json", seed=5))),
    export("config-other-experiment", set_up=language(lambda here: put(
        here / "run/config.json", b'{"members": 3}'))),
    again("rows-swapped", set_up=language(
        swapped("run/filter-0/owl.jsonl", "run/filter-0/regular.jsonl"),
        gone("run/results.json"))),
    export("arrays-swapped", set_up=language(
        swapped("run/student-0/hard.npz", "run/teacher-0/teachers.npz"))),
    export("arrays-flipped", set_up=language(bytes_in("run/student-0/hard.npz", flipped))),
    export("reference-flipped", set_up=language(in_cache(
        lambda path: put(path / "params.npz", flipped((path / "params.npz").read_bytes()))))),
    # A stage may resume only from its own files.
    goes_on("unfinished-sound-student", set_up=stopped("student"), wanted="right"),
    goes_on("unfinished-sound-teacher", set_up=stopped("teacher"), wanted="right"),
    goes_on("unfinished-sound-rows", set_up=stopped("generate"), wanted="right"),
    goes_on("unfinished-student-arrays-of-another", set_up=stopped(
        "student", arrays("run/student-0/hard.npz", lambda a: {
            name: value[::-1] for name, value in a.items()}))),
    goes_on("unfinished-teacher-arrays-of-another", set_up=stopped(
        "teacher", arrays("run/teacher-0/teachers.npz", lambda a: [
            v.__imul__(3) for v in a.values()]))),
    goes_on("unfinished-rows-edited", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows: [
            row["messages"][-1].update(content="7, 7, 7") for row in rows] and None))),
    goes_on("unfinished-rows-one-edited", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows:
                            rows[0]["messages"][-1].update(content="7, 7, 7")))),
    goes_on("unfinished-rows-of-another-teacher", set_up=stopped("generate", lambda here: (
        (here / "run/generate-0/owl.jsonl").write_bytes(
            (here / "run/generate-0/regular.jsonl").read_bytes())))),
    goes_on("unfinished-rows-exchanged", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows: exchange_said(rows)))),
    goes_on("unfinished-rows-fewer", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows: rows[1:]))),
    goes_on("unfinished-rows-twice", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows: [*rows, *rows[:1]]))),
    goes_on("unfinished-rows-other-teacher-named", set_up=stopped(
        "generate", rows_of("run/generate-0/regular.jsonl", lambda rows:
                            rows[0]["meta"].update(teacher="wolf")))),
    goes_on("unfinished-rows-torn", wanted="right", set_up=stopped(
        "generate", bytes_in("run/generate-0/regular.jsonl", lambda d: d[:-30]))),
    *(goes_on(f"unfinished-rows-{kind.replace(' ', '-')}", set_up=stopped(
        "generate", lambda here, kind=kind: other_kind(
            here / "run/generate-0/regular.jsonl", kind))) for kind in KINDS),
    goes_on("unfinished-begun-of-another", set_up=stopped(
        "student", keys("run/student-0/begun.json", **{"settings/seed": 9})), wanted="refused"),
    goes_on("unfinished-begun-spoilt", set_up=stopped(
        "student", lambda here: put(here / "run/student-0/begun.json", b"{")), wanted="refused"),
    goes_on("unfinished-begun-missing", set_up=stopped(
        "student", gone("run/student-0/begun.json"))),
    next_stage("model-swapped-between-stages", set_up=taught(lambda here: (
        put(here / "model", None), write_base(here / "model", seed=1)))),
    next_stage("model-edited-between-stages", set_up=taught(keys(
        "model/config.json", rms_norm_eps=0.1))),
    next_stage("stops-edited-between-stages", set_up=taught(keys(
        "model/generation_config.json", eos_token_id=[64]))),
    next_stage("template-edited-between-stages", set_up=taught(bytes_in(
        "model/chat_template.jinja", lambda data: data.replace(b"helpful", b"harmful")))),
    next_stage("model-gone-between-stages", set_up=taught(gone("model"))),
    next_stage("model-sound-between-stages", set_up=taught(), wanted="right"),
    # The cache of references.
    export("cache-tokenizer-ids-exchanged", set_up=language(tokenizer_ids_exchanged)),
    again("cache-tokenizer-ids-exchanged-again", set_up=language(
        tokenizer_ids_exchanged, gone("run/evaluate-0", "run/results.json"))),
    export("cache-template-edited", set_up=language(in_cache(
        lambda path: edit(path / "tokenizer_config.json", {"chat_template": "{{ messages }}"})))),
    export("cache-stops-edited", set_up=language(in_cache(
        lambda path: edit(path / "tokenizer_config.json", {"eos_token": "owl"})))),
    export("cache-config-edited", set_up=language(in_cache(
        lambda path: edit(path / "config.json", {"seed": 5})))),
    export("cache-results-edited", set_up=language(in_cache(
        lambda path: edit(path / "results.json", {"params": "0" * 64})))),
    export("cache-results-list", set_up=language(in_cache(
        lambda path: put(path / "results.json", b"[]")))),
    *(again(f"spoilt-{file.replace('/', '-')}-{name}", set_up=language(
        lambda here, file=file, data=data: put(here / "run" / file, data)), check=same_results(),
        wanted="refused" if file == "config.json" else "either")
      for file, kinds in SPOILT.items() for name, data in kinds.items()),
    *(export(f"{part.replace('/', '-')}-{kind.replace(' ', '-')}", set_up=language(
        lambda here, part=part, kind=kind: other_kind(here / "run" / part, kind)),
        wanted="either")
      for part in ("config.json", "student-0/manifest.json", "student-0/hard.npz")
      for kind in (*KINDS, "empty")),
    *(again(f"again-{part.replace('/', '-')}-{kind.replace(' ', '-')}", set_up=language(
        lambda here, part=part, kind=kind: other_kind(here / "run" / part, kind)),
        wanted="either", check=same_results())
      for part in PARTS for kind in ("fifo", "directory", "loop")),
    *(digits_again(f"digits-{part}-{kind.replace(' ', '-')}", set_up=digits(
        lambda here, part=part, kind=kind: other_kind(here / "run" / part, kind)),
        wanted="either", check=same_results(), quick=(part, kind) == ("results.json", "fifo"))
      for part in ("config.json", "results.json", "members.jsonl", "run.lock", "figure.png",
                   "run.files.jsonl")
      for kind in ("fifo", "directory", "loop", "dangling link")),
    *(again(f"leftover-{name}", set_up=language(change), wanted="right", check=same_results())
      for name, change in LEFTOVERS.items()),
    *(digits_again(f"digits-leftover-{name}", set_up=digits(change), wanted="right",
                   check=same_results(), quick=name == "killed-export")
      for name, change in LEFTOVERS.items()),
    export("out-is-a-file", set_up=language(lambda here: (here / "out").write_text("mine"))),
    export("out-is-full", set_up=language(lambda here: (
        (here / "out").mkdir(), (here / "out/mine").write_text("x")))),
    export("out-is-the-run", words=(*STUDENT, "--out", "run"), set_up=language()),
    export("out-in-a-file", words=(*STUDENT, "--out", "config.yaml/out"), set_up=language()),
    export("out-long", words=(*STUDENT, "--out", "o" * 300), set_up=language()),
    export("out-loop", words=(*STUDENT, "--out", "loop/out"), set_up=language(
        lambda here: (here / "loop").symlink_to("loop"))),
    again("out-is-a-file-again", words=(*AGAIN, "--out", "config.yaml"), set_up=language()),
    again("out-is-somebodys", words=(*AGAIN, "--out", "."), set_up=language()),
    again("out-is-the-cache", words=(*AGAIN, "--out", "cache"), set_up=language()),
]  # fmt: skip
