"""Logs of a service → a coverage file: what `understudy collect` does, in the order of its steps.

chunks     the lines of files and pipes, in blocks that one process takes at a time
detect     which format a file has
envelope   how logs wrap a request and its response
waiting    halves of an exchange until the other half comes, on disk
exchange   the conversation, and what the modules below share
openai_chat, openai_responses, anthropic, gemini, langfuse, plain
           what a line of each format means
rules      which exchanges were satisfactory, and of which task they are
redact     personal data and keys out of the text
work       a block of lines → rows, in any process
collect    all blocks → one file, in input order, each conversation once
"""
