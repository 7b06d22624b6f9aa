"""What a column of a verdict table can be; `understudy judges --help` shows them."""

# Role -> what it is, in the words of --help.
ROLES = {
    "item": "what was asked; several columns may name it together",
    "group": "what items belong to: user, conversation, document",
    "subset": "what kind of item it is; part of its name",
    "system": "who answered",
    "answer": "the answer, or a digest that tells answers of a system apart",
    "length": "of the answer",
    "judge": "who scored",
    "kind": "whether that was a human",
    "score": "the scores: one column, one for each repeat, or one for each judge",
    "human": "scores by people, or another truth",
    "dimension": "what was scored: coherence, fluency",
    "wording": "how the judge was asked",
    "temperature": "of the judge",
    "order": "in which it saw things",
    "repeat": "which of several verdicts",
    "verdict": "the id or digest of a verdict; equal ones are copies, not repeats",
    "winner": "which of two answers won",
    "first": "who gave the first of them",
    "second": "who gave the second",
    "right": "which of two answers is right",
    "error": "why there is no score",
    "ignore": "nothing",
}
