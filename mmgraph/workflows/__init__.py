"""Workflows: the functions behind the commands of the command line.

They open files, load saved models, call the library and return results; ``cli`` parses
options and prints. They may import everything except ``cli``.
"""
