"""Logs of a service → a coverage file: what `understudy collect` does, in the order of its steps.

formats    which format a file has, and what its lines mean; how a service writes its requests and
           responses is known to services/providers/
waiting    halves of an exchange until the other half comes, on disk
talks      which rows are turns of one conversation, where nobody has named it
rules      which exchanges were satisfactory, and of which task they are
opentelemetry, wrappers, langfuse   what tracers and gateways wrap an exchange in
redact     personal data and keys out of the text
work       a block of lines → rows, in any process
collect    all blocks → one file, in input order, each conversation once
guesses    what the columns, splits and task of a file may be
init       what `understudy init` proposes for a file
"""
