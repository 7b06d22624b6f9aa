"""An evaluation that was made elsewhere: the averages of one evaluator on one generator.

Single verdicts are not in published files, so whatever needs them (their spread, the reasons)
stays empty: `m` is null, and `n_repeats` is known only if the user says it.
"""

from understudy.data.answers import Score, load
from understudy.evaluation import scores
from understudy.records import Answer, Coverage, Verdict
from understudy.store.artifacts import Job, RowLog

_SCALE = "0-100"
_UNKNOWN = "unknown"


def run(job: Job) -> None:
    """Write the verdicts of `params.evaluator` and their summary; no judge is asked."""
    source, evaluator = job.config.inference, job.params["evaluator"]
    answers = job.rows("answers", Answer)
    generator = answers[0].generator
    ready = load(source, job.config.task.name)
    family = source.families.get(evaluator, _UNKNOWN)
    log = RowLog(job.out, Verdict)
    verdicts = (
        _verdict(score, generator, evaluator, family, source.repeats)
        for score in ready.scores[generator, evaluator]
    )
    log.append(verdict for verdict in verdicts if verdict.key not in log.rows)
    prompts = {row.id: row for row in job.rows("split", Coverage)}
    job.write_summary(
        {
            "judge": evaluator,
            "judge_family": family,
            "generator": generator,
            "family": answers[0].family,
            "prompt_variant": _UNKNOWN,
            "order": _UNKNOWN,
            "m": None,
            **scores.summarize(answers, log.finish()),
            "rule": scores.rule(answers, prompts),
        }
    )


def _verdict(
    score: Score, generator: str, evaluator: str, family: str, repeats: int | None
) -> Verdict:
    is_scored = score.similarity is not None and score.precision is not None
    return Verdict(
        prompt_id=score.prompt_id,
        generator=generator,
        k=score.k,
        judge=evaluator,
        judge_family=family,
        prompt_variant=_UNKNOWN,
        order=_UNKNOWN,
        m=None,
        scale=_SCALE,
        similarity=score.similarity if is_scored else None,
        precision=score.precision if is_scored else None,
        reason_similarity=None,
        reason_precision=None,
        status="scored" if is_scored else "not_in_file",
        n_repeats=repeats,
    )
