"""What the functions of the coding task compute, and the four ways to say each of it."""

from __future__ import annotations

from understudy.playground.templates import Template, templates

# expression -> wordings
BEHAVIOURS: dict[str, tuple[Template, ...]] = {
    "{left} + {right} + {n}": templates(
        "{left} plus {right} plus {n}",
        "the sum of {left}, {right} and {n}",
        "{left} and {right} and {n} all together",
        "{n} on top of {left} and {right} added up",
    ),
    "{left} + {right} - {n}": templates(
        "{left} plus {right} minus {n}",
        "the sum of {left} and {right}, less {n}",
        "{n} below the sum of {left} and {right}",
        "{left} and {right} added up, {n} taken away",
    ),
    "{left} - {right} + {n}": templates(
        "{left} minus {right} plus {n}",
        "{n} more than {left} minus {right}",
        "the gap from {right} to {left}, with {n} on top",
        "{left} without {right} but with {n}",
    ),
    "{left} - {right} - {n}": templates(
        "{left} minus {right} minus {n}",
        "{left} with {right} and {n} taken away",
        "the gap from {right} to {left}, less {n}",
        "{left} without {right} and without {n}",
    ),
    "{left} * {right} + {n}": templates(
        "{left} times {right} plus {n}",
        "the product of {left} and {right}, with {n} added",
        "{n} above {left} times {right}",
        "{left} multiplied by {right}, then {n} more",
    ),
    "{left} * {right} - {n}": templates(
        "{left} times {right} minus {n}",
        "the product of {left} and {right}, less {n}",
        "{n} below {left} times {right}",
        "{left} multiplied by {right}, then {n} fewer",
    ),
    "max({left}, {right}) + {n}": templates(
        "the larger of {left} and {right}, plus {n}",
        "{n} more than the larger of {left}, {right}",
        "the maximum of {left} and {right}, then {n} more",
        "whichever of {left} and {right} is on top, with {n} added",
    ),
    "max({left}, {right}) - {n}": templates(
        "the larger of {left} and {right}, minus {n}",
        "{n} less than the larger of {left}, {right}",
        "the maximum of {left} and {right}, then {n} fewer",
        "whichever of {left} and {right} is on top, {n} taken away",
    ),
    "min({left}, {right}) + {n}": templates(
        "the smaller of {left} and {right}, plus {n}",
        "{n} more than the smaller of {left}, {right}",
        "the minimum of {left} and {right}, then {n} more",
        "whichever of {left} and {right} is least, with {n} added",
    ),
    "min({left}, {right}) - {n}": templates(
        "the smaller of {left} and {right}, minus {n}",
        "{n} less than the smaller of {left}, {right}",
        "the minimum of {left} and {right}, then {n} fewer",
        "whichever of {left} and {right} is least, {n} taken away",
    ),
    "[v for v in {list} if v > {n}]": templates(
        "the {list} above {n}",
        "only those {list} that are more than {n}",
        "all {list} over {n}",
        "the {list} that beat {n}",
    ),
    "[v for v in {list} if v < {n}]": templates(
        "the {list} below {n}",
        "only those {list} that are less than {n}",
        "all {list} under {n}",
        "the {list} that stay short of {n}",
    ),
    "sum(v for v in {list} if v > {n})": templates(
        "the sum of the {list} above {n}",
        "the total of all {list} that are more than {n}",
        "what the {list} over {n} come to",
        "the {list} that beat {n}, added up",
    ),
    "sum(v for v in {list} if v < {n})": templates(
        "the sum of the {list} below {n}",
        "the total of all {list} that are less than {n}",
        "what the {list} under {n} come to",
        "the {list} that stay short of {n}, added up",
    ),
    "[v + {n} for v in {list}]": templates(
        "all {list} with {n} added",
        "each of the {list} plus {n}",
        "the {list}, every one raised by {n}",
        "the {list} moved up by {n}",
    ),
    "[v - {n} for v in {list}]": templates(
        "all {list} with {n} taken away",
        "each of the {list} minus {n}",
        "the {list}, every one cut by {n}",
        "the {list} moved down by {n}",
    ),
    "[v * {n} for v in {list}]": templates(
        "all {list} times {n}",
        "each of the {list} multiplied by {n}",
        "the {list}, every one made {n} times as large",
        "the {list} scaled by {n}",
    ),
}
