"""The plan of a sweep before it starts: what its cells share, what each trains, time."""

from subliminal_jax.language.outputs.plan import (
    cost_lines,
    dataset_stages,
    stage_table,
    student_counts,
)
from subliminal_jax.language.sweep.config import LmSweepConfig, cells


def format_sweep_plan(config: LmSweepConfig) -> str:
    """The stages as a table, and what they take."""
    lm, tuning, tested = config.lm, len(config.tuned_on), len(config.tested_on)
    ways = [next(cells(config, arm))[1] for arm in config.arms]
    counts = [student_counts(way) for way in ways]
    most, rates = max(map(sum, counts)), [len(arm.rates) for arm in config.arms]
    steps = lm.student.about_steps(lm.filter.rows)
    tried = ", ".join(f"{arm.name} {len(arm.rates)}" for arm in config.arms)
    tuned = (
        f"on the first {tuning}: {most} students of {steps} steps at each of {sum(rates)} rates "
        f"({tried})"
    )
    test = f"{most} students of {steps} steps for each of {len(counts)} ways"
    if tuning:
        test = f"on the other {tested}: as many for each of {len(counts)} ways, at its best rate"
    stages = dataset_stages(lm) | ({"tuning": tuned} if tuning else {})
    stages |= {"test": test, "report": "once: a figure, results.json, results.csv, report.html"}

    def mean(soft_weight: float) -> float:
        """The students of a reference, on average."""
        each = [students + soft_weight * soft for students, soft in counts]
        trials = sum(rate * one for rate, one in zip(rates, each, strict=True))
        return (tuning * trials + tested * sum(each)) / lm.references

    tunings = [way.student.tuning for way in ways]
    weight = [(one.weights == "full", one.rank) for one in tunings]
    heaviest = ways[weight.index(max(weight))]
    cost = cost_lines(heaviest, mean(1.0), mean(1.5), most)
    return "\n".join([*stage_table(lm, stages), "", *cost])
