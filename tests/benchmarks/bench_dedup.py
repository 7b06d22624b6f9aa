"""How long screening takes, and how much longer the reference's way takes.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_dedup.py [--rows N] [--growth] [--reference N]

Without an option: the growth from 32,000 to 256,000 rows, then the reference on 20,000.
"""

import argparse
import json
import math
import re
import resource
import time
from collections import Counter

from support import planted
from understudy.data.duplicates import paper_pairs
from understudy.data.screening import Screen


def timed(work, *arguments):  # type: ignore[no-untyped-def]
    """(result, CPU seconds of all threads, wall seconds)."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work(*arguments)
    return result, time.process_time() - cpu, time.perf_counter() - wall


def screen(rows: int) -> dict[str, object]:
    human = planted.human(600, 1, test=150, validation=50, holdout=50)
    made = planted.plant(rows, [row for row in human if row.split == "test"], 2)
    before = peak()

    def work() -> Counter[str]:
        return Counter(
            "kept" if drop is None else drop.reason for _, drop in Screen(human).sift(made.pairs)
        )

    counts, cpu, wall = timed(work)
    words = sum(len(f"{p.instruction} {p.response}".split()) for p in made.pairs[:2000]) / 2000
    return {
        **{
            "rows": rows,
            "words": round(words, 1),
            "cpu_s": round(cpu, 2),
            "wall_s": round(wall, 2),
        },
        **{"peak_mib": peak(), "of_which_input_mib": before, "counts": dict(counts)},
        "wanted": {
            "kept": rows
            - len(made.leak_of)
            - len(made.cluster_of)
            + len(set(made.cluster_of.values())),
            "held_out": len(made.leak_of),
        },
    }


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def reference_pairs(responses: list[str]) -> set[tuple[int, int]]:
    """LlamaDuo's dedup.py: datasketch over whitespace words, LSH at .9, ROUGE-L > .7, stemmed."""
    from datasketch import MinHash, MinHashLSH
    from rouge_score.rouge_scorer import RougeScorer

    hashes = []
    for text in responses:
        minhash = MinHash(num_perm=128)
        for word in text.split():
            minhash.update(word.encode("utf-8"))
        hashes.append(minhash)
    index = MinHashLSH(threshold=0.9, num_perm=128)
    for number, minhash in enumerate(hashes):
        index.insert(number, minhash)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    found = set()
    for number, minhash in enumerate(hashes):
        for other in index.query(minhash):
            if other != number:
                score = scorer.score(responses[number], responses[other])["rougeL"].fmeasure
                if score > 0.7:
                    found.add((min(number, other), max(number, other)))
    return found


def against_reference(rows: int) -> dict[str, object]:
    """The paper's rule on texts of about 110 words, by its way and by ours."""
    pairs = planted.plant(rows, planted.human(20, 1, test=10)[:10], 2).pairs
    texts = [f"{p.instruction} {p.response}" for p in pairs]
    ours, cpu, wall = min((timed(paper_pairs, texts) for _ in range(3)), key=lambda x: x[1])
    theirs, their_cpu, their_wall = timed(reference_pairs, texts)
    mine = {(near.row, number) for number, near in ours}
    at = [len(re.findall(r"\S+", text)) for text in texts]
    return {
        **{"rows": rows, "words": round(sum(at) / rows, 1)},
        **{"ours_cpu_s": round(cpu, 2), "theirs_cpu_s": round(their_cpu, 2)},
        **{"ours_wall_s": round(wall, 2), "theirs_wall_s": round(their_wall, 2)},
        **{"ratio_cpu": round(their_cpu / cpu, 1), "ratio_wall": round(their_wall / wall, 1)},
        **{"pairs_both": len(mine & theirs), "only_ours": len(mine - theirs)},
        "only_theirs": len(theirs - mine),
        # Every pair that one way alone finds, by exact Jaccard: theirs is what LSH lets through.
        "only_ours_jaccard": span(texts, mine - theirs),
        "only_theirs_jaccard": span(texts, theirs - mine),
    }


def span(texts: list[str], pairs: set[tuple[int, int]]) -> list[float]:
    """Least and greatest Jaccard."""
    values = [jaccard(texts[first], texts[second]) for first, second in pairs] or [math.nan]
    return [round(min(values), 3), round(max(values), 3)]


def jaccard(first: str, second: str) -> float:
    a, b = set(first.split()), set(second.split())
    return len(a & b) / len(a | b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--growth", action="store_true", help="32k, 64k, 128k, 256k in one process")
    parser.add_argument("--reference", type=int, default=0, metavar="ROWS")
    options = parser.parse_args()
    if not (options.rows or options.growth or options.reference):
        options.growth, options.reference = True, 20_000
    if options.reference:
        print(json.dumps(against_reference(options.reference)))
    if options.rows:
        print(json.dumps(screen(options.rows)))
    if options.growth:
        done = [screen(rows) for rows in (32_000, 64_000, 128_000, 256_000)]
        for each in done:
            print(json.dumps(each))
        ratio = float(done[-1]["cpu_s"]) / float(done[0]["cpu_s"])  # type: ignore[arg-type]
        print(json.dumps({"exponent_32k_to_256k": round(math.log(ratio, 8), 3)}))


if __name__ == "__main__":
    main()
