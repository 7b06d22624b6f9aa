"""The config as one stage of several of a kind sees it: SFT before a preference, samples for it.

A stage's Spec names its view; what it computes and what is hashed both come from that.
"""

from dataclasses import replace

from understudy.config.groups import Config
from understudy.config.training import PREFERENCES


def plain(config: Config) -> Config:
    """The config itself."""
    return config


def sft(config: Config) -> Config:
    """Of supervised fine-tuning: the same, whatever follows it."""
    recipe = config.trainer
    if recipe.kind not in PREFERENCES:
        return config
    return replace(config, trainer=replace(recipe, kind=recipe.trains, weights=None))


def sampling(config: Config) -> Config:
    """Of the answers that are to be labelled."""
    wanted = config.preference
    inference = replace(config.inference, k=wanted.samples, temperature=wanted.temperature)
    return replace(config, inference=inference)


def labelling(config: Config) -> Config:
    """Of the judge that labels them."""
    return replace(config, evaluation=replace(config.evaluation, m=config.preference.m))


def preferring(config: Config) -> Config:
    """Of the training on labelled answers, which goes on from the model of SFT."""
    wanted, recipe = config.preference, config.trainer
    changed = replace(
        recipe,
        lr=recipe.lr * wanted.lr_share,
        epochs=wanted.epochs,
        min_steps=0,
        max_steps=wanted.max_steps,
        batch_size=wanted.batch_size,
        packing=False,
        unpadded=False,
        loss="answer",
        start="previous",
    )
    return replace(config, trainer=changed)
