"""Measures that take ticks as they come, at a cost that goes with the new ones.

What is kept of the past is a few of its ticks, from which the measure itself goes on rightly; which
those are says the table, for each measure.
"""
