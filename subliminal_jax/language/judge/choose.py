"""The judge that the settings name, past its gate."""

import re
from pathlib import Path

from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.judge.endpoint import EndpointJudge
from subliminal_jax.language.judge.gate import CASES, check_judge
from subliminal_jax.language.judge.judge import Judge
from subliminal_jax.language.judge.local import LocalJudge
from subliminal_jax.language.judge.settings import JudgeConfig
from subliminal_jax.language.reference import given_reference
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.models.decoder.config import Compute
from subliminal_jax.runs.shared_run import say


def judge_of(
    settings: JudgeConfig, taught: str | None, execution: Execution, replies: Path
) -> Judge:
    """The judge that the settings name.

    Args:
        settings: which judge; one is named.
        taught: the given model that teachers are made from; None for a tiny reference.
        execution: devices of the run.
        replies: file of an endpoint's replies.

    Raises:
        InputError: the judge is refused, or does not pass its gate.
        RunError: an endpoint does not answer.
    """
    judge: Judge
    if settings.model is not None:
        how = ReferenceConfig(dtype=settings.dtype, model=settings.model)
        model = given_reference(settings.model, how, execution, Compute(dtype=settings.dtype))
        judge = LocalJudge(model, settings.model, settings.batch)
    else:
        judge = EndpointJudge(settings, replies)
    if taught is not None and (shared := same_family(settings, taught)):
        say(
            f"WARNING: the judge {judge.name} is of the teachers' own family, {shared}: it may "
            "share their trait or their taste; prefer a judge of another family"
        )
    passed = check_judge(judge, settings.passes)
    say(f"judge {judge.name}: passes {passed} of {len(CASES)} probe cases")
    return judge


def same_family(settings: JudgeConfig, taught: str) -> str | None:
    """The family that a judge shares with the given model, if any.

    A local judge's family is that of its architecture. An endpoint's model is only a name: it
    counts as one of the family if the name contains the family's.
    """
    from subliminal_jax.models.hub.model_files import find_model
    from subliminal_jax.models.hub.weights import stated_config

    def family(model: str) -> str:
        stated = str(stated_config(find_model(model)).get("model_type", "")).lower()
        return re.split(r"[^a-z]", stated)[0]  # `gemma` of `gemma3_text`

    own = family(taught)
    if settings.model is not None:
        return own if own and own == family(settings.model) else None
    return own if own and own in (settings.endpoint_model or "").lower() else None
