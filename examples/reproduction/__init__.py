"""The paper's tables and figures. `examples/reproduce.py` is the command.

In the order in which a command passes through them:

    command        options, and what to do with them
    recipes/       the tables as data: columns, rows, the paper's numbers; and how to train
    configs        the description of one run, made from a recipe
    plan           the runs that a command asks for, parameter searches included
    runs           a process for each run; progress shows how far they are
    training       one run, resumable; augmentation has its input pipelines, locks its lock
    tables         a table in Markdown, made from the results
    page           the tables in the pages of the documentation; pictures draws their charts

Only `training` and `augmentation` load Keras, so that the command itself starts at once.
"""
