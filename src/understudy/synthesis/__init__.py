"""The synthetic pool: from which rows a teacher is asked, and which of its pairs are accepted.

stage        a block of the pool: ask until it is full
calls        what each call asks for, and from which train row
weak         which train rows may seed, where the local model is weak
acceptance   which pairs of the replies enter a block
filters      what is wrong with a pair by itself
"""
