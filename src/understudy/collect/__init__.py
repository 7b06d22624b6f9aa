"""Logs of a service → a coverage file: what `understudy collect` does, in the order of its steps.

detect     which format a file has
waiting    halves of an exchange until the other half comes, on disk
langfuse, plain
           what a line of these formats means; a service's own is known to services/providers/
rules      which exchanges were satisfactory, and of which task they are
redact     personal data and keys out of the text
work       a block of lines → rows, in any process
collect    all blocks → one file, in input order, each conversation once
"""
